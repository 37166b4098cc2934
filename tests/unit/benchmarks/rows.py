"""Rows to show: two subjects under two sizes of work."""

from benchmarks.suite.machine import Machine
from benchmarks.suite.measured import Bars, Lines, Measured, Row, Skipped
from benchmarks.suite.results import Result

ROWS = (
    Row("bare loop", {"engine": "plain", "runs": 100}, {"rounds_per_s": 999.5, "wall_s": 0.5}),
    Row("celery-agents", {"engine": "plain", "runs": 100, "workers": 1}, {"rounds_per_s": 940.0}),
    Row("celery-agents", {"engine": "plain", "runs": 400, "workers": 1}, {"rounds_per_s": 1234.5}),
    Row("celery-agents", {"engine": "stub", "runs": 400, "workers": 2}, {"rounds_per_s": 801.25}),
)
BARS = Bars("Rounds per second", "rounds_per_s", "rounds/s", group_by="engine")
LINES = Lines("Rounds per second", "runs", ("rounds_per_s",), "rounds/s")
MACHINE = Machine("A processor", 2, 7.6, "Some Linux", "CPython 3.11.9", {"redis": "6.4.0"})


def result(name: str = "throughput", *, machine: Machine = MACHINE) -> Result:
    """What a measurement came to."""
    skipped = (Skipped("another", "needs npm"),)
    measured = Measured(ROWS, skipped, (BARS, LINES), explanation="Measured well.")
    return Result(name, f"All of {name}", measured, machine, "2026-01-31", 12.3)
