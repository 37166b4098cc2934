"""What a run costs in memory while it waits for its model, with thousands in one worker process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from agent_client import AgentClient
from benchmarks.memory import peak_mib, resident_mib
from benchmarks.rounds.measuring import (
    BARE,
    SYSTEM,
    conditions_of,
    measure_system,
    run_bare,
    run_workers,
)
from benchmarks.rounds.work import Work
from benchmarks.suite.measured import Bars, Measured, Row
from benchmarks.suite.stage import Stage
from shared.settings import Settings

NAME: Final = "in_flight"
TITLE: Final = "Thousands of runs in one worker"

_LOOK_S: Final = 0.25
_PATIENCE: Final = {"AGENTS_BROKER_TIMEOUT_S": "60", "AGENTS_REDIS_TIMEOUT_S": "60"}
"""For the driver, all of whose submits wait for each other."""
_EXPLANATION: Final = """
All runs are submitted at once to one worker process and wait for their model most of the time: each
asks twice, with a tool call in between. Every message is stored and seen by a watcher in another
process. `in flight` is the most that the worker said it had, in one of its heartbeats. `KiB/run` is
the peak of the process's resident memory without what it had before, for each run in flight; `over
bare` is that without what the agent library takes by itself, in a process that does nothing else.
`times ideal` is wall time over that of two model calls. `python -m benchmarks.in_flight` does the
same over HTTP.
"""


def measure(stage: Stage) -> Measured:
    """A plain function, then Pydantic AI and its bare loop."""
    work = stage.choose(Work(2_000, 2, 10.0), quick=Work(20, 2, 0.5))
    plain, stub, bare = (
        _bare(work) if step == BARE else _in_flight(step, work)
        for step in stage.track(("plain", "stub", BARE))
    )
    over_bare = stub.figures["kib_per_run"] - bare.figures["kib_per_run"]
    stub = Row(SYSTEM, stub.conditions, {**stub.figures, "over_bare_kib_per_run": over_bare})
    plot = Bars("Memory of a run in flight", "kib_per_run", "KiB")
    return Measured((plain, stub, bare), plots=(plot,), explanation=_EXPLANATION.strip())


def _in_flight(engine: str, work: Work) -> Row:
    with run_workers(1, {"AGENTS_CONCURRENCY": str(work.runs)}) as system:
        pid = system.workers[0].pid
        idle = resident_mib(pid)
        with _looking(system.settings) as seen:
            row = measure_system(system, engine, work, _PATIENCE)
        figures = _figures(seen.most, idle, peak_mib(pid), row.figures["wall_s"], work)
    return Row(SYSTEM, row.conditions, figures)


def _bare(work: Work) -> Row:
    taken = run_bare("stub", work)
    figures = _figures(work.runs, taken["idle_mib"], taken["peak_mib"], taken["wall_s"], work)
    return Row(BARE, conditions_of(work, workers=1, engine="stub"), figures)


def _figures(
    in_flight: int, idle: float, peak: float, wall_s: float, work: Work
) -> dict[str, float]:
    return {
        "in_flight": in_flight,
        "kib_per_run": (peak - idle) * 1024 / in_flight,
        "idle_mib": idle,
        "peak_mib": peak,
        "wall_s": wall_s,
        "times_ideal": wall_s / work.ideal_s,
    }


@dataclass
class _Seen:
    """What somebody saw who looked at the worker again and again."""

    most: int = 0


@contextmanager
def _looking(settings: Settings) -> Iterator[_Seen]:
    """Look how many runs the worker has, until the end of the block."""
    seen, is_over = _Seen(), threading.Event()

    def look() -> None:
        with AgentClient(settings) as client:
            while not is_over.wait(_LOOK_S):
                active = (worker.active_runs for worker in client.workers())
                seen.most = max(seen.most, *active, 0)

    thread = threading.Thread(target=look, name="looking")
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()
