"""The page of all results: the machine, then for each measurement its table and its plots."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.suite.machine import Machine
from benchmarks.suite.measured import Skipped
from benchmarks.suite.plot import can_plot, draw
from benchmarks.suite.register import NAMES
from benchmarks.suite.results import Result, read_result
from benchmarks.suite.table import markdown

PAGE: Final = "README.md"
_TINY: Final = "**A tiny version, to see that it works; its figures say nothing about speed.**"


def write_report(folder: Path) -> Path:
    """Draw all plots and write the page, from the results that lie in the folder."""
    results = read_results(folder)
    machine = max(results, key=lambda result: result.measured_at).machine
    sections = [_section(result, _draw_all(result, folder), machine) for result in results]
    page = folder / PAGE
    page.write_text("\n\n".join([_head(machine), *sections]) + "\n", encoding="utf-8")
    return page


def read_results(folder: Path) -> list[Result]:
    """All results of the folder, in the register's order."""
    paths = (folder / f"{name}.json" for name in NAMES)
    return [read_result(path) for path in paths if path.is_file()]


def _draw_all(result: Result, folder: Path) -> list[tuple[str, str]]:
    """Titles and file names of the plots that could be drawn."""
    if not can_plot():
        return []
    for old in folder.glob(f"{result.name}-*.svg"):
        old.unlink()
    drawn = []
    for place, plot in enumerate(result.measured.plots, start=1):
        name = f"{result.name}-{place}.svg"
        if draw(plot, result.measured.rows, folder / name):
            drawn.append((plot.title, name))
    return drawn


def _head(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"""# Results

`make bench` writes this page; the same figures lie beside it as JSON.

Machine: {machine}.

Versions: {versions}."""


def _section(result: Result, plots: Sequence[tuple[str, str]], machine: Machine) -> str:
    measured = result.measured
    when = f"Measured on {result.measured_at}, in {result.took_s:.0f} s"
    where = "." if result.machine == machine else f", elsewhere: {result.machine}."
    return "\n\n".join(
        filter(
            None,
            [
                f"## {result.title}",
                _TINY if result.is_quick else "",
                measured.explanation,
                markdown(measured.rows) if measured.rows else "",
                _skipped(measured.skipped),
                *(f"![{title}]({name})" for title, name in plots),
                when + where,
            ],
        )
    )


def _skipped(skipped: Sequence[Skipped]) -> str:
    lines = [f"- {each.subject}: {each.reason}" for each in skipped]
    return "\n".join(["Skipped:", "", *lines]) if lines else ""
