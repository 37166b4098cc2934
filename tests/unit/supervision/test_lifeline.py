"""The lifeline: both of its ends, and what is not one."""

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent_worker.supervision.child import Child
from agent_worker.supervision.lifeline import VARIABLE, Lifeline
from shared.errors import ConfigurationError

PROGRAM = """
import os, signal
from agent_worker.supervision.lifeline import VARIABLE, Lifeline

lifeline = Lifeline.from_environment()
assert VARIABLE not in os.environ, "what this process starts would take itself for supervised"
assert not os.get_inheritable(lifeline._end.fileno()), "nor may it hold the lifeline"
lifeline.watch()
lifeline.report_up()
signal.pause()
"""


async def test_who_loses_its_supervisor_does_what_sigterm_does() -> None:
    """However the supervisor ended: it is the system that closes its end."""
    child = Child([sys.executable, "-c", PROGRAM])
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, child.look)
    assert await child.is_up
    child._lifeline.shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(10):
        ending = await child.ended
    assert ending.code == -signal.SIGTERM


def test_who_is_not_supervised_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual case: a worker process alone."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert Lifeline.from_environment() is None


@pytest.mark.parametrize("value", ["", "x", "-1", "1000000"])
def test_a_variable_that_names_nothing_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """It was copied from another process's environment."""
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ConfigurationError, match=VARIABLE):
        Lifeline.from_environment()


def test_a_variable_that_names_another_file_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whose it is, which is left as it was."""
    with (tmp_path / "file").open("wb") as file:
        monkeypatch.setenv(VARIABLE, str(file.fileno()))
        with pytest.raises(ConfigurationError, match=VARIABLE):
            Lifeline.from_environment()
        file.write(b"still open")


def test_the_supervisor_loads_nothing_of_what_its_processes_need() -> None:
    """It is there beside them all the time, and what it has not loaded cannot break it."""
    program = (
        "import sys; import agent_worker.supervision.supervisor\n"
        "heavy = {'redis', 'celery', 'kombu', 'pydantic_ai', 'openai', 'uvloop'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
