"""The benchmark suite: every measurement, one after the other, a few minutes in all.

    python -m benchmarks.suite [--only NAME ...] [--quick] [--results FOLDER] [--list]

Writes NAME.json for each, its plots as NAME-1.svg and so on (with the extra `bench`), and a
README.md that shows everything which lies in the folder. Exit code 1 if a measurement failed; what
one has to leave out on this machine is said, and is no failure.
"""

import argparse
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.suite.machine import this_machine
from benchmarks.suite.measured import Measured, Skipped
from benchmarks.suite.plot import can_plot
from benchmarks.suite.register import NAMES, Measurement, load
from benchmarks.suite.report import write_report
from benchmarks.suite.results import Result, write_result
from benchmarks.suite.stage import Stage, UnavailableError
from benchmarks.suite.table import columns
from benchmarks.system import REPOSITORY

RESULTS: Final = REPOSITORY / "benchmarks" / "results"
QUICK_RESULTS: Final = REPOSITORY / ".bench" / "quick"
"""Where tiny versions go, so that they are not taken for figures."""
WIDTH: Final = 180
"""Of tables, on a console that is narrower: what is cut off was measured in vain."""


def run(names: Sequence[str], folder: Path, console: Console, *, is_quick: bool) -> list[str]:
    """Run measurements and write down what they came to; return those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names:
        try:
            measurement = load(name)
            console.rule(measurement.title, align="left")
            result = _measure(measurement, console, is_quick=is_quick)
        except Exception:  # noqa: BLE001  one that fails spoils no other; the exit code tells
            console.print_exception()
            failed.append(name)
            continue
        write_result(result, folder)
        write_report(folder)
        _tell(result.measured, console)
    return failed


def _measure(measurement: Measurement, console: Console, *, is_quick: bool) -> Result:
    columns = (
        TextColumn(measurement.name),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="agents-bench-") as folder,
        # Drawn twice a second: what draws takes time from what is being measured.
        Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress,
    ):
        try:
            measured = measurement.measure(Stage(progress, Path(folder), is_quick=is_quick))
        except UnavailableError as error:
            measured = Measured((), (Skipped(measurement.name, str(error)),))
    return Result(
        name=measurement.name,
        title=measurement.title,
        measured=measured,
        machine=this_machine(),
        measured_at=datetime.now(UTC).date().isoformat(),
        took_s=time.perf_counter() - started,
        is_quick=is_quick,
    )


def _tell(measured: Measured, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    shown = columns(measured.rows) if measured.rows else []
    for column in shown:
        table.add_column(column.heading, justify="right" if column.is_number else "left")
    for line in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*map(escape, line))
    console.print(table, width=max(console.width, WIDTH), crop=False, highlight=False)
    for skipped in measured.skipped:
        console.print(f"skipped: {skipped.subject}: {skipped.reason}", markup=False)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help="some of them")
    parser.add_argument("--quick", action="store_true", help="a tiny version of each")
    parser.add_argument("--results", type=Path, help="where to write (benchmarks/results)")
    parser.add_argument("--list", action="store_true", help="say which there are")
    options = parser.parse_args()
    console = Console()
    if options.list:
        for name in NAMES:
            console.print(f"{name:<12} {load(name).title}", highlight=False, markup=False)
        return 0
    if not can_plot():
        console.print("Without plots: matplotlib is not installed (the extra `bench`).")
    folder = options.results or (QUICK_RESULTS if options.quick else RESULTS)
    chosen = [name for name in NAMES if name in (options.only or NAMES)]
    failed = run(chosen, folder, console, is_quick=options.quick)
    console.print(f"Written to {folder}.", markup=False)
    if failed:
        console.print(f"Failed: {', '.join(failed)}.", markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    # What clients warn of (no worker is alive, where none shall be) would stand between the bars.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    # Ended as by `sys.exit`, so that servers and workers are stopped, too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
