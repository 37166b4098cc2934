"""Rows for the work: of this system with its driver, and of the bare loop."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from benchmarks.rounds.work import Work
from benchmarks.suite.measured import Condition, Row
from benchmarks.system import REPOSITORY, System, run_system

ENGINES: Final[Mapping[str, str]] = {
    "plain": "plain function",
    "stub": "Pydantic AI, stub",
    "http": "Pydantic AI, HTTP",
}
"""Agents of `benchmarks.rounds.agents`, and what they are called in tables."""
SYSTEM: Final = "celery-agents"
BARE: Final = "bare loop"
CONCURRENCY: Final = 400
"""Runs that a worker may have in flight: all of the largest work."""
TIMEOUT_S: Final = 300.0


@contextmanager
def run_workers(workers: int, environment: Mapping[str, str] | None = None) -> Iterator[System]:
    """Redis and so many worker processes that serve all engines, everything else at its default."""
    with run_system(
        "benchmarks.rounds.agents",
        workers=workers,
        environment={"AGENTS_CONCURRENCY": str(CONCURRENCY), **(environment or {})},
    ) as system:
        yield system


def measure_system(
    system: System, engine: str, work: Work, environment: Mapping[str, str] | None = None
) -> Row:
    """The work, submitted and watched by a driver process, which is given `environment` as well."""
    pids = [word for each in system.workers for word in ("--worker-pid", str(each.pid))]
    settings = system.settings
    own = {
        "AGENTS_REDIS_URL": settings.effective_redis_url,
        "AGENTS_KEY_PREFIX": settings.key_prefix,
        **(environment or {}),
    }
    taken = _run("benchmarks.rounds.driver", [engine, *pids], work, own)
    cpu = {
        f"{who}_cpu_ms_per_round": 1000 * taken[f"{who}_cpu_s"] / work.all_rounds
        for who in ("worker", "driver", "redis")
    }
    conditions = conditions_of(work, workers=len(system.workers), engine=engine)
    return Row(SYSTEM, conditions, {**speed(taken["wall_s"], work), **cpu})


def measure_bare(engine: str, work: Work, environment: Mapping[str, str] | None = None) -> Row:
    """The work in one process that stores nothing and shows nobody."""
    taken = run_bare(engine, work, environment)
    figures = {
        **speed(taken["wall_s"], work),
        "worker_cpu_ms_per_round": 1000 * taken["cpu_s"] / work.all_rounds,
    }
    return Row(BARE, conditions_of(work, workers=1, engine=engine), figures)


def run_bare(
    engine: str, work: Work, environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    """All that `benchmarks.rounds.bare` says."""
    return _run("benchmarks.rounds.bare", [engine], work, environment or {})


def conditions_of(work: Work, *, workers: int, engine: str) -> dict[str, Condition]:
    """As they stand in a row."""
    return {
        "engine": ENGINES[engine],
        "runs": work.runs,
        "rounds": work.rounds,
        "latency_s": work.latency_s,
        "workers": workers,
    }


def speed(wall_s: float, work: Work) -> dict[str, float]:
    """The figures of a wall time."""
    return {"wall_s": wall_s, "rounds_per_s": work.all_rounds / wall_s}


def _run(
    module: str, arguments: list[str], work: Work, environment: Mapping[str, str]
) -> dict[str, float]:
    """One program of this package, and what it prints.

    Raises:
        RuntimeError: It failed; its last words are in the message.
    """
    done = subprocess.run(  # noqa: S603  this project's own modules
        [sys.executable, "-m", module, *arguments, *work.as_arguments()],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}, {work}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
