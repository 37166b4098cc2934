"""The agent of `benchmarks.in_flight` in a bare loop: one process, nothing stored, nobody watching.

    python -m benchmarks.bare_loop RUNS

What the agent library and its HTTP client take by themselves, for comparison. Prints JSON.
"""

import asyncio
import json
import os
import sys
import time

import uvloop

from benchmarks.in_flight_agents import agent
from benchmarks.memory import peak_mib, resident_mib


async def run_all(runs: int) -> float:
    """Run all at once; return the wall time in seconds."""
    started = time.perf_counter()
    await asyncio.gather(*(agent.run("What is tea?") for _ in range(runs)))
    return time.perf_counter() - started


def main() -> None:
    """Run from the command line."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        idle = resident_mib(os.getpid())
        wall = runner.run(run_all(int(sys.argv[1])))
    figures = {
        "wall_s": wall,
        "cpu_s": time.process_time(),
        "idle_mib": idle,
        "peak_mib": peak_mib(os.getpid()),
    }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
