"""Peers of the benchmark suite: what their folders say, and what is made of it."""

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from benchmarks.measures.peers import PeerFailedError, Trial, run_trial
from benchmarks.rounds.work import Work
from benchmarks.suite import peer as peers
from benchmarks.suite.peer import Peer, find_peers
from benchmarks.suite.stage import UnavailableError

DESCRIPTION = """
name = "Sample"
needs = ["redis"]
python = ">=3.11"
persists = true
watches = false
resumes = false
note = "It does nothing."
variants = ["", "fast"]
"""


@pytest.fixture
def peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    """One whose environment is this one."""
    folder = tmp_path / "peers" / "sample"
    folder.mkdir(parents=True)
    (folder / "peer.toml").write_text(DESCRIPTION)
    (folder / "requirements.txt").touch()
    monkeypatch.setattr(peers, "ENVIRONMENTS", tmp_path / "environments")
    binaries = tmp_path / "environments" / "sample" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    (found,) = find_peers(folder.parent)
    return found


def test_peers_of_the_repository_describe_themselves() -> None:
    """And each has what is run, at versions that do not change by themselves."""
    for each in find_peers():
        assert each.description.note.endswith(".")
        assert (each.folder / "runner.py").is_file()
        lines = (each.folder / "requirements.txt").read_text().splitlines()
        pinned = [line for line in lines if line and not line.startswith("#")]
        assert all("==" in line and not line.startswith("-") for line in pinned), each.folder


def test_a_folder_that_says_something_else_is_refused(peer: Peer) -> None:
    (peer.folder / "peer.toml").write_text(DESCRIPTION.replace("watches", "shows"))
    with pytest.raises(ValidationError, match="watches"):
        find_peers(peer.folder.parent)


def test_another_python_or_a_missing_npm_is_a_reason_to_skip(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for old, new, reason in (
        (">=3.11", ">=4", "needs Python >=4"),
        ('"redis"', '"npm"', "needs npm"),
    ):
        (peer.folder / "peer.toml").write_text(DESCRIPTION.replace(old, new))
        monkeypatch.setattr("shutil.which", lambda _: None)
        (changed,) = find_peers(peer.folder.parent)
        with pytest.raises(UnavailableError, match=reason):
            changed.prepare()


def test_a_runner_is_told_the_work_and_reports(peer: Peer, tmp_path: Path) -> None:
    (peer.folder / "runner.py").write_text(
        "import json, os, sys\n"
        "print('working')\n"
        "print(json.dumps({'words': sys.argv[1:], 'redis': os.environ['REDIS_URL'],"
        " 'path': os.environ['PYTHONPATH']}))\n"
    )
    trial = Trial(peer, "fast", Work(3, 2, 0.1), workers=2)
    assert str(trial) == "Sample (fast), 3 runs of 2 rounds at 0.1 s, workers: 2"
    report = run_trial(trial, {"REDIS_URL": "redis://here"}, tmp_path / "log")
    assert " ".join(report["words"]) == (
        "--runs 3 --rounds 2 --latency-s 0.1 --workers 2 --variant fast"
    )
    assert report["redis"] == "redis://here"
    assert report["path"] == str(peers.PEERS)


def test_a_runner_that_fails_is_quoted(peer: Peer, tmp_path: Path) -> None:
    (peer.folder / "runner.py").write_text("raise SystemExit('3 of 4 runs completed')")
    trial = Trial(peer, "", Work(3, 2, 0.1), workers=1)
    with pytest.raises(PeerFailedError, match="exit code 1: 3 of 4 runs completed"):
        run_trial(trial, {}, tmp_path / "log")


def test_a_runner_that_hangs_is_stopped(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGTERM, so that it can stop what it started."""
    (peer.folder / "runner.py").write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(pathlib.Path('stopped').touch()))\n"
        "pathlib.Path('started').touch()\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr("benchmarks.measures.peers.RUN_TIMEOUT_S", 2.0)
    with pytest.raises(PeerFailedError, match="not done within 2 s"):
        run_trial(Trial(peer, "", Work(3, 2, 0.1), workers=1), {}, tmp_path / "log")
    assert (peer.folder / "stopped").exists()
