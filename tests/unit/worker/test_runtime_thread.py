"""A runtime on a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from agent_worker.definition import AgentDefinition
from agent_worker.local import LocalDispatcher
from agent_worker.runtime_thread import RuntimeThread
from shared.backend import Backend
from shared.errors import StoreUnavailableError
from shared.run import RunStatus
from tests.unit.worker.scripted import ScriptedEngine, says
from tests.unit.worker.stage import AGENT, Stage, raises

Value = TypeVar("Value")


class Host:
    """A runtime thread with what it serves, for tests on the main thread."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.ended = threading.Event()
        self.thread = RuntimeThread(
            self.stage.settings,
            {AGENT: AgentDefinition(AGENT, ScriptedEngine([says("hi")]))},
            open_backend=self._backend,
            open_dispatcher=lambda _: LocalDispatcher(),
            on_end=self.ended.set,
            worker_id="worker-1",
        )

    def call(self, work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """Await something on the runtime's loop."""
        loop = self.thread._loop
        assert loop is not None
        return asyncio.run_coroutine_threadsafe(work(), loop).result(10)

    def _backend(self, _: object) -> Backend:
        return self.stage.backend


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.thread.hand_over()
    host.thread.join()


def test_other_threads_ring_it_and_end_it(host: Host) -> None:
    """`wake` answers as the runtime does; after the end it answers no, and nobody waits."""
    host.thread.start()
    run_id = host.call(host.stage.submit)
    assert host.thread.wake(run_id)
    assert host.call(lambda: host.stage.ended(run_id)).status is RunStatus.COMPLETED
    assert not host.thread.wake(run_id)
    host.thread.hand_over()
    host.thread.join()
    assert host.ended.is_set()
    assert host.thread.failure is None
    assert not host.thread.wake(run_id)
    host.thread.stop_taking()


def test_before_its_start_it_answers_no(host: Host) -> None:
    """A ring that comes too early is for a sweep to repeat."""
    assert not host.thread.wake("run-0-00000000000000000000000000000000")


def test_a_defect_ends_it_and_is_kept(host: Host) -> None:
    """Whoever runs the process is called, and finds out why."""
    defect = ZeroDivisionError("a defect")
    host.thread.start()
    host.stage.faults.add("beat", raises(defect))
    assert host.ended.wait(10)
    assert host.thread.failure is defect


def test_it_can_be_ended_before_its_store_is_there() -> None:
    """A worker that waits for Redis still follows a signal."""
    host = Host()
    away = raises(StoreUnavailableError("away"))
    host.stage.faults.add("beat", *[away] * 1000)
    starting = threading.Thread(target=host.thread.start, name="starting")
    starting.start()
    while not host.ended.wait(0.01):
        host.thread.hand_over()  # it takes effect once there is a loop
    starting.join(10)
    assert not starting.is_alive()
    assert host.thread.failure is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_task_that_wants_to_exit_ends_itself_only(host: Host, error: BaseException) -> None:
    """Code of an agent may start tasks of its own; no loop with all other runs stops for that."""

    async def leave() -> None:
        raise error

    async def start() -> asyncio.Task[None]:
        task = asyncio.create_task(leave())
        await asyncio.wait({task})
        return task

    host.thread.start()
    assert host.call(start).exception() is error
    run_id = host.call(host.stage.submit)
    assert host.thread.wake(run_id)
    assert host.call(lambda: host.stage.ended(run_id)).status is RunStatus.COMPLETED
    assert host.thread.failure is None
    assert not host.ended.is_set()
