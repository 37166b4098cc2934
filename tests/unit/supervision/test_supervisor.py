"""The supervisor, over processes that stand in for workers; each notes which signals it gets."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, Signals
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent_worker.supervision import restarts
from agent_worker.supervision import supervisor as module
from agent_worker.supervision.supervisor import FAILED, OK, Supervisor
from shared.testing.waiting import eventually
from tests.unit.supervision import stand_in
from tests.unit.supervision.stand_in import REFUSED

LONG_S = 60.0
END_S = 10.0
RUN = """
import sys
from agent_worker.supervision.supervisor import Supervisor
sys.exit(Supervisor(sys.argv[1:], 2, grace_s=60.0, refusal_code=2).run())
"""


class Notes:
    """What stand-ins left in their folder."""

    def __init__(self, folder: Path, *behaviours: str) -> None:
        self._folder = folder
        program = [sys.executable, "-I", "-S", str(stand_in.__file__), str(folder)]
        self.command = [*program, *behaviours]

    def all(self) -> list[list[int]]:
        """Of each process in the order of their starts: its id, and the signals that it got."""
        files = sorted(self._folder.iterdir(), key=lambda file: int(file.name))
        return [[int(line) for line in file.read_text().split()] for file in files]

    def signals(self) -> list[list[int]]:
        """Which signals each process got."""
        return [note[1:] for note in self.all()]

    async def started(self, count: int) -> list[int]:
        """Wait until so many processes have been started; their ids."""
        await eventually(lambda: self._are_there(count))
        return [note[0] for note in self.all()]

    async def noted(self, *numbers: int) -> None:
        """Wait until every process has got exactly these signals."""
        await eventually(lambda: self._have_noted(list(numbers)))

    async def _are_there(self, count: int) -> bool:
        return len(self.all()) >= count and all(self.all())

    async def _have_noted(self, numbers: list[int]) -> bool:
        return all(signals == numbers for signals in self.signals())


class Scene:
    """A supervisor at work in this process, without the signals of this process."""

    def __init__(self, folder: Path, *behaviours: str, processes: int) -> None:
        self.notes = Notes(folder, *behaviours)
        self._supervisor = Supervisor(
            self.notes.command, processes, grace_s=LONG_S, refusal_code=REFUSED
        )
        self._supervising = asyncio.create_task(self._supervisor.supervise())

    @property
    def is_at_work(self) -> bool:
        """Whether it still waits for processes."""
        return not self._supervising.done()

    async def code(self) -> int:
        """Wait for its end."""
        async with asyncio.timeout(END_S):
            return await asyncio.shield(self._supervising)

    def tell(self, number: int) -> None:
        """Let it hear a signal."""
        self._supervisor._on_signal(number)


@asynccontextmanager
async def scene(folder: Path, *behaviours: str, processes: int) -> AsyncIterator[Scene]:
    """End whatever is left of it behind the block."""
    on_stage = Scene(folder, *behaviours, processes=processes)
    try:
        yield on_stage
    finally:
        for _ in range(3):
            on_stage.tell(SIGINT)
        await on_stage.code()


def _entries(log: list[Any], event: str) -> list[dict[str, Any]]:
    return [entry for entry in log if entry["event"] == event]


async def test_a_process_that_dies_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    """The log says which one, of what, and when there will be another one."""
    with capture_logs() as log:
        async with scene(tmp_path, "serve", processes=2) as stage:
            pids = await stage.notes.started(2)
            os.kill(pids[0], SIGKILL)
            assert (await stage.notes.started(3))[:2] == pids
            stage.tell(SIGTERM)
            assert await stage.code() == OK
            assert stage.notes.signals() == [[], [SIGTERM], [SIGTERM]]
    [death] = _entries(log, "process.died")
    assert death.items() >= {"pid": pids[0], "signal": "SIGKILL", "restart_in_s": 0.5}.items()
    assert death["lived_s"] >= 0


async def test_a_set_up_that_is_wrong_is_found_once(tmp_path: Path) -> None:
    """By the first process, whose exit code is the answer; no other one is started."""
    async with scene(tmp_path, "refuse", processes=4) as stage:
        assert await stage.code() == REFUSED
        assert len(stage.notes.all()) == 1


async def test_the_others_follow_a_first_one_that_came_up(tmp_path: Path) -> None:
    """One that still waits for its store has not shown yet that the set-up is right."""
    async with scene(tmp_path, "silent", "serve", processes=4) as stage:
        await stage.notes.started(1)
        stage.tell(SIGTERM)
        assert await stage.code() == OK
        assert len(stage.notes.all()) == 1


async def test_who_was_right_once_is_not_given_up_at_once(tmp_path: Path) -> None:
    """A process that finds the set-up wrong, while others serve, takes nobody along."""
    with capture_logs() as log:
        async with scene(tmp_path, "serve", "refuse", processes=2) as stage:
            await stage.notes.started(2)
            await eventually(lambda: _is_logged(log, "process.died"))
            stage.tell(SIGTERM)
            assert await stage.code() == OK
    assert [entry["exit_code"] for entry in _entries(log, "process.died")] == [REFUSED]


async def test_where_no_place_is_left_that_is_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A set-up that does not become right again leaves one place empty, and at last all."""
    monkeypatch.setattr(restarts, "LONGEST_PAUSE_S", 0.01)
    with capture_logs() as log:
        async with scene(tmp_path, "serve", "refuse", processes=2) as stage:
            await eventually(lambda: _is_logged(log, "process.given_up"))
            assert stage.is_at_work
            os.kill(stage.notes.all()[0][0], SIGKILL)
            assert await stage.code() == REFUSED
    assert len(stage.notes.all()) == 1 + 2 * restarts.MAX_REFUSALS


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGHUP, SIGQUIT])
async def test_who_is_told_to_leave_tells_each_process_once(
    tmp_path: Path, number: Signals
) -> None:
    """The first signal is one wish, whichever it is."""
    async with scene(tmp_path, "serve", processes=3) as stage:
        await stage.notes.started(3)
        stage.tell(number)
        assert await stage.code() == OK
        assert stage.notes.signals() == [[SIGTERM]] * 3


async def test_what_is_repeated_is_passed_on(tmp_path: Path) -> None:
    """What it means, each process knows; the third Ctrl-C waits for none of them."""
    async with scene(tmp_path, "stubborn", processes=2) as stage:
        await stage.notes.started(2)
        stage.tell(SIGTERM)
        await stage.notes.noted(SIGTERM)
        stage.tell(SIGHUP)
        await stage.notes.noted(SIGTERM, SIGHUP)
        stage.tell(SIGINT)
        await stage.notes.noted(SIGTERM, SIGHUP, SIGINT)
        assert stage.is_at_work
        stage.tell(SIGINT)
        assert await stage.code() == FAILED


async def test_a_terminals_ctrl_c_is_heard_once(tmp_path: Path) -> None:
    """It goes to all processes of a group; heard there as well, it would be pressed twice."""
    notes = Notes(tmp_path, "stubborn")
    with _run_in_a_group(notes.command) as running:
        await notes.started(2)
        for heard in ([SIGTERM], [SIGTERM, SIGINT]):
            os.killpg(running.pid, SIGINT)
            await notes.noted(*heard)
        os.killpg(running.pid, SIGINT)
        assert await asyncio.to_thread(running.wait, 10) == FAILED


async def test_who_does_not_leave_in_time_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the supervisor would wait for ever; the exit code says that this was no good end."""
    monkeypatch.setattr(module, "LEAVE_S", 0.1 - LONG_S)
    with capture_logs() as log:
        async with scene(tmp_path, "stubborn", "serve", processes=2) as stage:
            pids = await stage.notes.started(2)
            stage.tell(SIGTERM)
            assert await stage.code() == FAILED
    assert [entry["pid"] for entry in _entries(log, "process.killed")] == pids[:1]


async def test_a_machine_that_starts_nothing_is_waited_for() -> None:
    """No memory, no further processes: those that are there go on."""
    supervisor = Supervisor(["/not/there"], 2, grace_s=LONG_S, refusal_code=REFUSED)
    with capture_logs() as log:
        supervising = asyncio.create_task(supervisor.supervise())
        await eventually(lambda: _is_logged(log, "process.died"))
        supervisor._on_signal(SIGTERM)
        async with asyncio.timeout(END_S):
            assert await supervising == OK
    assert len(_entries(log, "process.not_started")) == 1


@contextmanager
def _run_in_a_group(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A supervisor as the leader of a process group, as a shell starts programs."""
    program = [sys.executable, "-c", RUN, *command]
    with subprocess.Popen(program, process_group=0, stderr=subprocess.DEVNULL) as running:
        try:
            yield running
        finally:
            running.kill()


async def _is_logged(log: list[Any], event: str) -> bool:
    return bool(_entries(log, event))
