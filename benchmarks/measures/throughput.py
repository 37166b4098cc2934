"""How many rounds a second the system does, and what of it is the agent loop by itself."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from benchmarks.rounds.agents import MODEL_URL
from benchmarks.rounds.measuring import BARE, measure_bare, measure_system, run_workers
from benchmarks.rounds.work import Work
from benchmarks.suite.measured import Bars, Measured, Row
from benchmarks.suite.stage import Stage
from tests.model_server import ModelServerProcess

NAME: Final = "throughput"
TITLE: Final = "Rounds per second, beside the bare agent loop"

QUICK: Final = Work(10, 3, 0.01)
SIZES: Final = (Work(100, 5, 0.1), Work(400, 5, 0.1), Work(200, 10, 0.05))
WORKERS: Final = (1, 2)

EXPLANATION: Final = """
All runs of a row are submitted at once by one driver process, each in a conversation of its own. A
run of R rounds asks its model R times; all answers but the last call a tool, which gives back 100
characters at once. Every message is stored the moment it exists, and the driver watches every run:
the clock stops when it has the last outcome and all 2 R messages of each run. Everything is at its
defaults but the concurrency of the workers; Redis has an append-only file, written through every
second. The *bare loop* is the same agent code in one process that stores nothing and shows nobody:
`ratio to bare` is how many of its rounds per second are left. The *plain function* is an async
generator that sleeps for the model's latency; Pydantic AI runs over a model in the process that
sleeps (*stub*), and over an OpenAI client and HTTP to a stand-in server (*HTTP*), without streaming
of text. CPU time is counted in all processes of a row; driver, workers, Redis and the stand-in
server share the cores of the machine. Rows of the plain function are the best of two measurements.
"""


Cell = tuple[str, Work]
"""An engine, and what it has to do."""
_BARE: Final = 0
"""In the place of a number of workers: the bare loop."""


def measure(stage: Stage) -> Measured:
    """Each row beside its bare loop, so that both find the machine in the same mood."""
    sizes = stage.choose(SIZES, quick=(QUICK,))
    largest = stage.choose(SIZES[1], quick=QUICK)
    cells: list[Cell] = [("plain", work) for work in sizes]
    cells += [("stub", largest), ("http", largest)]
    best: dict[tuple[Cell, int], Row] = {}
    with ModelServerProcess() as server:
        for workers in stage.choose(WORKERS, quick=WORKERS[-1:]):
            for cell, row in _rows(stage, cells, workers, {MODEL_URL: server.base_url}):
                key = cell, _BARE if row.subject == BARE else workers
                best[key] = max(row, best.get(key, row), key=_speed)
    ordered = sorted(best.items(), key=lambda each: (cells.index(each[0][0]), each[0][1]))
    return Measured(
        tuple(_with_ratio(row, best[cell, _BARE]) for (cell, _), row in ordered),
        plots=(
            Bars("Rounds per second", "rounds_per_s", "rounds/s", group_by="engine"),
            Bars("CPU time of workers", "worker_cpu_ms_per_round", "ms/round", group_by="engine"),
        ),
        explanation=EXPLANATION.strip(),
    )


def _rows(
    stage: Stage, cells: list[Cell], workers: int, environment: Mapping[str, str]
) -> Iterator[tuple[Cell, Row]]:
    """Of the bare loop and of a system with so many workers; the short ones twice."""
    with run_workers(workers, environment) as system:
        repeated = cells + stage.choose([cell for cell in cells if cell[0] == "plain"], quick=[])
        for engine, work in stage.track(repeated, lambda cell: f"{cell[0]}, {cell[1]}, {workers}"):
            yield (engine, work), measure_bare(engine, work, environment)
            yield (engine, work), measure_system(system, engine, work)


def _with_ratio(row: Row, bare: Row) -> Row:
    first = {name: row.figures[name] for name in ("wall_s", "rounds_per_s")}
    ratio = _speed(row) / _speed(bare)
    return replace(row, figures={**first, "ratio_to_bare": ratio, **row.figures})


def _speed(row: Row) -> float:
    return row.figures["rounds_per_s"]
