"""Where a worker's processor time goes in one round, layer by layer."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.rounds.measuring import ENGINES, SYSTEM, measure_system, run_workers
from benchmarks.rounds.work import Work
from benchmarks.suite.measured import Bars, Measured, Row
from benchmarks.suite.stage import Stage, UnavailableError

NAME: Final = "layers"
TITLE: Final = "Where a worker's time goes in one round"

WORKS: Final = {"plain": Work(1600, 5, 0.1), "stub": Work(800, 5, 0.1)}
QUICK: Final = Work(200, 5, 0.01)
RATE: Final = 250
"""Looks a second."""
ATTACH_S: Final = 30.0
ENOUGH: Final = 50
"""Stacks; shares of fewer would be luck."""

LAYERS: Final = (
    ("rings: Celery and kombu", ("celery/", "kombu/", "vine/", "ring_consumer", "Thread.wake")),
    ("the wire: commands and answers", ("shared/redis_", "_AsyncHiredisParser")),
    ("log", ("structlog/", "logging/", "shared/log")),
    ("messages and records, JSON", ("shared/",)),
    ("Pydantic AI as an engine", ("agent_worker/engine/pydantic_ai/",)),
    ("the agent itself", ("benchmarks/", "pydantic_ai/", "pydantic_graph/", "anyio/")),
    ("plain function as an engine", ("agent_worker/engine/",)),
    ("leading runs", ("agent_worker/",)),
)
"""By words in a frame. The innermost frame of a stack that is in one of them decides, so that what
a library does for a layer counts as that layer's."""
NO_LAYER: Final = "_run_to_its_end"
"""The frame from which the event loop is run."""
REST: Final = "event loop, threads"

EXPLANATION: Final = f"""
`py-spy` looks at one worker {RATE} times a second, at the thread that holds the interpreter's lock,
while it does the work above. Shares of the looks are laid over the processor time that a round took
in the worker by the account of the system, in a run that nobody looked at; so time in system calls
is divided alike. A layer has what libraries do for it: the JSON of a message counts as the
message's. *The agent itself* is code that the bare loop has to execute as well. Client and Redis
are rows of their own, without shares of the worker.
"""


def measure(stage: Stage) -> Measured:
    """Both engines: one run without, one with somebody who looks."""
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        raise UnavailableError("needs py-spy")
    rows: list[Row] = []
    for engine, full in stage.track(list(WORKS.items()), lambda each: ENGINES[each[0]]):
        work = stage.choose(full, quick=QUICK)
        with run_workers(1) as system:
            figures = measure_system(system, engine, work).figures
            path = stage.new_folder() / "stacks"
            with _look(spy, system.workers[0].pid, path):
                measure_system(system, engine, work)
        rows += _rows(engine, figures, shares_of(path.read_text().splitlines()))
    plot = Bars("Processor time of a round", "ms_per_round", "ms/round", group_by="engine")
    return Measured(tuple(rows), plots=(plot,), explanation=EXPLANATION.strip())


@contextmanager
def _look(spy: str, pid: int | None, path: Path) -> Iterator[None]:
    """Write the stacks of a process into a file, a line with its count for each.

    Raises:
        UnavailableError: One process may not look into another one here.
    """
    options = ["--format", "raw", "--rate", str(RATE), "--gil", "--nonblocking"]
    command = [spy, "record", *options, "--output", str(path), "--pid", str(pid)]
    with subprocess.Popen(  # noqa: S603  py-spy, of this environment
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        first = process.stdout.readline() if process.stdout is not None else ""
        if process.poll() is not None or "Error" in first:
            raise UnavailableError(f"py-spy may not look: {first.strip()}")
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=ATTACH_S)


def shares_of(stacks: Iterable[str]) -> dict[str, float]:
    """What part of the looks found each layer. A line is `outer;...;inner count`.

    Raises:
        RuntimeError: There were too few.
    """
    found: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        found[_layer_of(stack.split(";"))] += int(count)
    if (total := found.total()) < ENOUGH:
        raise RuntimeError(f"py-spy saw {total} stacks only; it was too late, or too slow.")
    return {layer: count / total for layer, count in found.most_common()}


def _layer_of(frames: list[str]) -> str:
    for frame in reversed(frames):
        if NO_LAYER in frame:
            break
        for layer, words in LAYERS:
            if any(word in frame for word in words):
                return layer
    return REST


def _rows(engine: str, figures: Mapping[str, float], shares: Mapping[str, float]) -> Iterator[Row]:
    conditions = {"engine": ENGINES[engine]}
    took = figures["worker_cpu_ms_per_round"]
    yield Row(f"{SYSTEM}, worker", conditions, {"ms_per_round": took})
    for layer, share in shares.items():
        yield Row(layer, conditions, {"ms_per_round": share * took, "of_the_worker": share})
    yield Row("client, watching", conditions, {"ms_per_round": figures["driver_cpu_ms_per_round"]})
    yield Row("Redis server", conditions, {"ms_per_round": figures["redis_cpu_ms_per_round"]})
