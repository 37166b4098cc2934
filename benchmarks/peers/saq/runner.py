"""SAQ over Redis."""

import asyncio
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from importlib.metadata import version

from _work import WORKERS_READY, Work, count_stored, final, parse, report, started, wait_until
from redis import Redis
from saq import Queue
from worker import CONCURRENCY, REDIS_URL

WORKER_COMMAND = (sys.executable, "-m", "saq", "worker.settings")
LOOK_AGAIN_S = 1.0
"""News of a job's end can get lost between a look at the job and listening for news."""


async def drive(queue: Queue, runs: Iterable[int], work: Work) -> int:
    """Submit and await all at once; return how many gave the right answer."""

    async def one(run: int) -> bool:
        job = await queue.enqueue(
            "run_agent", run=run, rounds=work.rounds, latency_s=work.latency_s, timeout=0
        )
        while job is not None and not job.completed:
            with suppress(TimeoutError):
                await job.refresh(LOOK_AGAIN_S)
        return job is not None and job.result == final(run)

    return sum(await asyncio.gather(*map(one, runs)))


def main() -> int:
    """Start the workers, do the work, stop them; return the exit code."""
    work = parse()
    redis = Redis.from_url(REDIS_URL)
    queue = Queue.from_url(REDIS_URL)
    slots = {CONCURRENCY: str(work.runs)}
    with asyncio.Runner() as loop:
        loop.run(queue.connect())
        with ExitStack() as workers:
            began = time.perf_counter()
            for _ in range(work.workers):
                workers.enter_context(started(WORKER_COMMAND, slots))
            wait_until(lambda: int(redis.get(WORKERS_READY) or 0) == work.workers)
            loop.run(drive(queue, work.warm_up, work))
            startup_s = time.perf_counter() - began
            began = time.perf_counter()
            completed = loop.run(drive(queue, range(work.runs), work))
            wall_s = time.perf_counter() - began
        loop.run(queue.disconnect())
    return report(
        work,
        wall_s=wall_s,
        startup_s=startup_s,
        version=version("saq"),
        completed=completed,
        stored=count_stored(work, lambda key: redis.lrange(key, 0, -1)),
    )


if __name__ == "__main__":
    sys.exit(main())
