"""Owned processes: known by id and birth, so that nobody else's is ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from examples.quickstart.process import OwnedProcess, read_birth

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that ignores SIGTERM, once it said so."""
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdout is not None
        it.stdout.readline()
        yield it
        it.kill()


def find(pid: int) -> OwnedProcess:
    """The process with this id, which must be there."""
    process = OwnedProcess.find("child", pid)
    assert process is not None
    return process


def test_a_running_process_is_alive(child: subprocess.Popen[str]) -> None:
    """A process is known again by what was written down about it."""
    written_down = find(child.pid).model_dump_json()
    assert OwnedProcess.model_validate_json(written_down).is_alive


def test_an_ended_process_is_gone_even_before_it_was_waited_for(
    child: subprocess.Popen[str],
) -> None:
    """A zombie does not count as running, or stopping it would wait for ever."""
    process = find(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it ended, and is still a zombie
    assert not process.is_alive
    assert OwnedProcess.find("child", child.pid) is None


def test_a_process_that_ignores_sigterm_is_killed(child: subprocess.Popen[str]) -> None:
    """Stopping always ends it, politely or not."""
    assert find(child.pid).stop(patience_s=0.1)
    assert child.wait(10) == -signal.SIGKILL


def test_another_process_with_the_same_id_is_left_alone(child: subprocess.Popen[str]) -> None:
    """An id that was used again belongs to somebody else, who is not to be ended."""
    earlier = OwnedProcess(name="child", pid=child.pid, birth="some other time")
    assert not earlier.is_alive
    assert not earlier.stop(patience_s=0.1)
    assert child.poll() is None


def test_two_processes_have_two_births(child: subprocess.Popen[str]) -> None:
    """What tells processes apart is not the same for all of them."""
    assert read_birth(child.pid) not in {None, read_birth(1)}
