"""Plots of the benchmark suite: what labels say, and that there is something to see."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.suite.measured import Bars, Lines, Plot, Row
from benchmarks.suite.plot import can_plot, draw, labels
from tests.unit.benchmarks.rows import BARS, LINES, ROWS

needs_matplotlib = pytest.mark.skipif(not can_plot(), reason="matplotlib is not installed")


def test_a_label_names_what_tells_rows_of_a_subject_apart() -> None:
    assert labels(ROWS) == [
        "bare loop",
        "celery-agents, plain, runs 100, workers 1",
        "celery-agents, plain, runs 400, workers 1",
        "celery-agents, stub, runs 400, workers 2",
    ]
    assert labels(ROWS[:3], without=["runs"]) == ["bare loop", "celery-agents", "celery-agents"]


@needs_matplotlib
@pytest.mark.parametrize("plot", [BARS, LINES, Bars("Flat", "rounds_per_s", "", is_log=True)])
def test_a_plot_shows_each_value_and_is_the_same_each_time(plot: Plot, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.svg", "two.svg")]
    assert all(draw(plot, ROWS, path) for path in paths)
    one, two = (path.read_bytes() for path in paths)
    assert one == two
    said = _texts(paths[0])
    assert any(plot.title in text for text in said)
    if isinstance(plot, Bars):
        assert {"1,000", "940", "1,234", "801"} <= said
        titles = {"plain", "stub, runs 400, workers 2"}
        assert titles & said == (titles if plot.group_by else set())
    else:
        assert {"100", "400"} <= said


@needs_matplotlib
def test_figures_of_one_plot_of_lines_have_a_line_each(tmp_path: Path) -> None:
    rows = [
        Row("celery-agents", {"watchers": count}, {"p50_ms": 1.0, "p99_ms": 2.0, "other": 3.0})
        for count in (10, 100, 1000)
    ]
    path = tmp_path / "lines.svg"
    assert draw(Lines("Latency", "watchers", ("p50_ms", "p99_ms"), "ms"), rows, path)
    assert {"celery-agents, p50, ms", "celery-agents, p99, ms", "1,000"} <= _texts(path)


@needs_matplotlib
@pytest.mark.parametrize("plot", [Bars("None", "absent", "s"), Lines("None", "engine", ("x",), "")])
def test_nothing_is_drawn_of_what_no_row_has(plot: Plot, tmp_path: Path) -> None:
    assert not draw(plot, ROWS, tmp_path / "none.svg")
    assert not list(tmp_path.iterdir())


def _texts(path: Path) -> set[str]:
    return {
        "".join(each.itertext()).strip() for each in ET.parse(path).iter() if "text" in each.tag
    }
