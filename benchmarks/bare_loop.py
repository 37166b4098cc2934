"""The agent of `benchmarks.in_flight` in a bare loop: one process, nothing stored, nobody watching.

    python -m benchmarks.bare_loop RUNS

What the agent library and its HTTP client take by themselves, for comparison. Prints JSON.
"""

import asyncio
import json
import resource
import sys
import time

import uvloop

from benchmarks.in_flight_agents import agent


async def run_all(runs: int) -> float:
    """Run all at once; return the wall time in seconds."""
    started = time.perf_counter()
    await asyncio.gather(*(agent.run("What is tea?") for _ in range(runs)))
    return time.perf_counter() - started


def main() -> None:
    """Run from the command line."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wall = runner.run(run_all(int(sys.argv[1])))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "idle_mib": idle,
        "peak_mib": usage.ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
