"""The benchmark suite from its command line, and the environments of peers, for real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.suite import peer as peers
from benchmarks.suite.peer import find_peers
from benchmarks.suite.plot import can_plot
from benchmarks.suite.results import read_result
from benchmarks.suite.stage import UnavailableError
from benchmarks.system import REPOSITORY
from shared.embedded_redis import find_redis_server
from tests.services import missing

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CPU = {"driver_cpu_ms_per_round", "worker_cpu_ms_per_round", "redis_cpu_ms_per_round"}


@pytest.mark.timeout(300)
def test_a_tiny_throughput_is_measured_and_written_down(tmp_path: Path) -> None:
    """All three engines, bare and through two workers."""
    if find_redis_server() is None:
        missing("there is no Redis server")
    environment = {name: value for name, value in os.environ.items() if "AGENTS_" not in name}
    words = ["--quick", "--only", "throughput", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.suite", *words],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=270,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = read_result(tmp_path / "throughput.json")
    assert result.is_quick
    assert not result.measured.skipped
    rows = result.measured.rows
    assert len(rows) == 6
    for row in rows:
        ideal = row.conditions["runs"] / row.figures["wall_s"]  # type: ignore[operator]  # numbers
        assert 0 < row.figures["rounds_per_s"] == pytest.approx(ideal * 3)
    ours = [row for row in rows if row.subject == "celery-agents"]
    assert [row.conditions["workers"] for row in ours] == [2, 2, 2]
    assert all(row.figures.keys() >= {"ratio_to_bare", *CPU} for row in ours)
    page = (tmp_path / "README.md").read_text()
    assert page.count("\n| celery-agents | ") == len(ours)
    assert result.title in done.stdout
    if can_plot():
        assert {path.name for path in tmp_path.glob("*.svg")} == {
            "throughput-1.svg",
            "throughput-2.svg",
        }


def test_an_environment_is_made_once_and_anew_when_its_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be installed is a reason to skip, in pip's words."""
    folder = tmp_path / "peers" / "sample"
    folder.mkdir(parents=True)
    (folder / "peer.toml").write_text(
        'name = "Sample"\nneeds = []\npython = ">=3.11"\nnote = "Nothing."\n'
        "persists = false\nwatches = false\nresumes = false\n"
    )
    (folder / "requirements.txt").write_text("# nothing\n")
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path / "environments")
    (peer,) = find_peers(folder.parent)
    peer.prepare()
    kept = peer.environment / "kept"
    kept.touch()
    peer.prepare()
    assert kept.exists()
    (folder / "requirements.txt").write_text("./there-is-no-such-folder\n")
    with pytest.raises(UnavailableError, match=r"cannot be installed: .*there-is-no-such-folder"):
        peer.prepare()
    assert not kept.exists()
