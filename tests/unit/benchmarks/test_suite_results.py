"""Results of the benchmark suite as files, and the page over them."""

import json
from dataclasses import replace
from pathlib import Path

from benchmarks.suite.machine import this_machine
from benchmarks.suite.plot import can_plot
from benchmarks.suite.report import read_results, write_report
from benchmarks.suite.results import read_result, write_result
from tests.unit.benchmarks.rows import MACHINE, result


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Whole numbers stay whole, and each plot stays what it was."""
    written = result()
    path = write_result(written, tmp_path)
    assert path.name == "throughput.json"
    read = read_result(path)
    assert read == written
    assert repr(read.measured.rows[0].conditions) == repr(written.measured.rows[0].conditions)
    assert json.loads(path.read_text())["measured"]["skipped"] == [
        {"subject": "another", "reason": "needs npm"}
    ]


def test_the_page_has_everything_that_lies_in_the_folder(tmp_path: Path) -> None:
    elsewhere = replace(MACHINE, cpu="Another processor")
    for each in (result("recovery", machine=elsewhere), result("throughput")):
        write_result(each, tmp_path)
    (tmp_path / "throughput-9.svg").write_text("of an older version")
    (tmp_path / "mine.svg").write_text("of somebody else")
    assert [each.name for each in read_results(tmp_path)] == ["throughput", "recovery"]
    page = write_report(tmp_path).read_text()
    assert page.index("## All of throughput") < page.index("## All of recovery")
    assert page.count("Machine: ") == 1
    assert page.count(", elsewhere: ") == 1
    assert "| celery-agents | plain | 400 | 1 | 1,234 |  |" in page
    assert "- another: needs npm" in page
    assert "Measured well." in page
    assert (tmp_path / "mine.svg").exists()
    shown = {path.name for path in tmp_path.glob("*-*.svg") if f"]({path.name})" in page}
    if can_plot():
        assert shown == {path.name for path in tmp_path.glob("*-*.svg")}
        assert len(shown) == 4


def test_a_tiny_version_is_marked_as_one(tmp_path: Path) -> None:
    write_result(replace(result(), is_quick=True), tmp_path)
    assert "say nothing about speed" in write_report(tmp_path).read_text()


def test_the_machine_says_what_it_is() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert 0.1 < machine.memory_gib < 100_000
    assert machine.python.startswith("CPython 3.")
    assert {"celery-agents", "celery", "redis"} <= machine.versions.keys()
