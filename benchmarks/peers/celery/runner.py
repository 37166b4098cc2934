"""Bare Celery, with Redis as its broker and for its results.

Variants: threads and gevent with a slot for every run, prefork with 16 processes for each worker.
"""

import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.metadata import version

from _work import WORKERS_READY, Work, count_stored, final, parse, report, started, wait_until
from tasks import redis, run_agent

PROCESSES = 16
"""A process takes tens of MiB, so there is not one for every run."""
RESULT_TIMEOUT_S = 120.0


def worker_command(work: Work, number: int) -> list[str]:
    """The command line of one worker."""
    slots = PROCESSES if work.variant == "prefork" else work.runs
    return [
        *(sys.executable, "-m", "celery", "--app", "tasks", "--quiet", "worker"),
        *("--hostname", f"worker{number}@%h", "--loglevel", "warning"),
        *("--pool", work.variant, "--concurrency", str(slots)),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


def drive(runs: Iterable[int], work: Work) -> int:
    """Submit all, then wait for all; return how many gave the right answer."""
    waiting = [(run, run_agent.delay(run, work.rounds, work.latency_s)) for run in runs]
    return sum(handle.get(timeout=RESULT_TIMEOUT_S) == final(run) for run, handle in waiting)


def main() -> int:
    """Start the workers, do the work, stop them; return the exit code."""
    work = parse()
    with ExitStack() as workers:
        began = time.perf_counter()
        for number in range(work.workers):
            workers.enter_context(started(worker_command(work, number)))
        wait_until(lambda: int(redis.get(WORKERS_READY) or 0) == work.workers)
        drive(work.warm_up, work)
        startup_s = time.perf_counter() - began
        began = time.perf_counter()
        completed = drive(range(work.runs), work)
        wall_s = time.perf_counter() - began
    return report(
        work,
        wall_s=wall_s,
        startup_s=startup_s,
        version=version("celery"),
        completed=completed,
        stored=count_stored(work, lambda key: redis.lrange(key, 0, -1)),
    )


if __name__ == "__main__":
    sys.exit(main())
