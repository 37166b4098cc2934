"""The register and the command line of the benchmark suite."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.suite import __main__ as command_line
from benchmarks.suite.measured import Measured, Row
from benchmarks.suite.register import NAMES, Measurement, load
from benchmarks.suite.results import read_result
from benchmarks.suite.stage import Stage, UnavailableError


def test_every_module_of_measures_is_registered_and_loads() -> None:
    folder = Path(command_line.__file__).parents[1] / "measures"
    naming = re.compile(r"^NAME\b", re.MULTILINE)
    named = {path.stem for path in folder.glob("*.py") if naming.search(path.read_text())}
    assert named == set(NAMES)
    for name in NAMES:
        measurement = load(name)
        assert measurement.name == name
        assert measurement.title


def test_the_list_names_each_with_its_title(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["suite", "--list"])
    assert command_line.main() == 0
    said = capsys.readouterr().out
    assert load("throughput").title in said
    assert said.count("\n") == len(NAMES)


def test_an_unknown_name_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["suite", "--only", "nonsense"])
    with pytest.raises(SystemExit) as end:
        command_line.main()
    assert end.value.code == 2
    assert "throughput" in capsys.readouterr().err


def test_tiny_versions_are_kept_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Real figures are not written over by an attempt."""
    _register(monkeypatch, throughput=lambda stage: Measured(()))
    monkeypatch.setattr(command_line, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(command_line, "QUICK_RESULTS", tmp_path / "quick")
    monkeypatch.setattr("sys.argv", ["suite", "--quick"])
    assert command_line.main() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["quick"]
    assert read_result(tmp_path / "quick" / "throughput.json").is_quick


def test_one_that_fails_or_is_unavailable_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: Stage) -> Measured:
        raise RuntimeError("spoilt")

    def lack(_: Stage) -> Measured:
        raise UnavailableError("there is no PostgreSQL")

    def measure(stage: Stage) -> Measured:
        assert list(stage.folder.iterdir()) == []
        (stage.new_folder() / "file").touch()
        size = stage.choose(400, quick=10)
        return Measured(tuple(Row("a", {"runs": each}, {}) for each in stage.track([size])))

    _register(monkeypatch, throughput=fail, latency=lack, recovery=measure)
    console = Console(file=io.StringIO(), width=200)
    names = ["throughput", "latency", "recovery"]
    assert command_line.run(names, tmp_path, console, is_quick=True) == ["throughput"]
    assert {path.stem for path in tmp_path.glob("*.json")} == {"latency", "recovery"}
    assert read_result(tmp_path / "recovery.json").measured.rows == (Row("a", {"runs": 10}, {}),)
    page = (tmp_path / "README.md").read_text()
    assert "- latency: there is no PostgreSQL" in page
    assert "spoilt" in console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, above


def _register(monkeypatch: pytest.MonkeyPatch, **measurements: Callable[[Stage], Measured]) -> None:
    monkeypatch.setattr(
        command_line, "load", lambda name: Measurement(name, f"Title of {name}", measurements[name])
    )
    monkeypatch.setattr(command_line, "NAMES", tuple(measurements))
