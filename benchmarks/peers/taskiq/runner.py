"""Taskiq over Redis streams, with its results in Redis and uvloop everywhere."""

import asyncio
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version

import uvloop
from _work import WORKERS_READY, Work, count_stored, final, parse, report, started, wait_until
from broker import REDIS_URL, broker, run_agent
from redis import Redis

CHECK_INTERVAL_S = 0.05
"""How often the driver asks for each result; there is no way to be told."""
RESULT_TIMEOUT_S = 120.0


def worker_command(work: Work) -> list[str]:
    """The command line that starts all workers."""
    return [
        *(sys.executable, "-m", "taskiq", "worker", "broker:broker"),
        *("--workers", str(work.workers), "--max-async-tasks", str(work.runs)),
        *("--log-level", "WARNING"),
    ]


async def drive(runs: Iterable[int], work: Work) -> int:
    """Submit and await all at once; return how many gave the right answer."""

    async def one(run: int) -> bool:
        handle = await run_agent.kiq(run, work.rounds, work.latency_s)
        outcome = await handle.wait_result(CHECK_INTERVAL_S, RESULT_TIMEOUT_S)
        return outcome.return_value == final(run)

    return sum(await asyncio.gather(*map(one, runs)))


def main() -> int:
    """Start the workers, do the work, stop them; return the exit code."""
    work = parse()
    redis = Redis.from_url(REDIS_URL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(broker.startup())  # before the workers: makes the group that they read in
        began = time.perf_counter()
        with started(worker_command(work)):
            wait_until(lambda: int(redis.get(WORKERS_READY) or 0) == work.workers)
            loop.run(drive(work.warm_up, work))
            startup_s = time.perf_counter() - began
            began = time.perf_counter()
            completed = loop.run(drive(range(work.runs), work))
            wall_s = time.perf_counter() - began
        loop.run(broker.shutdown())
    return report(
        work,
        wall_s=wall_s,
        startup_s=startup_s,
        version=version("taskiq"),
        completed=completed,
        stored=count_stored(work, lambda key: redis.lrange(key, 0, -1)),
    )


if __name__ == "__main__":
    sys.exit(main())
