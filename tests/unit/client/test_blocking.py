"""The blocking face: the same client for threads, scripts and people who press Ctrl-C."""

import asyncio
import gc
import inspect
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, assert_type

import pytest

from agent_client import (
    AgentClient,
    AgentRun,
    AsyncAgentClient,
    AsyncManagedConversations,
    AsyncRun,
    CancelResult,
    ManagedConversations,
    Message,
    Outcome,
    RequestError,
    ResultTimeoutError,
    RunFailedError,
    Settings,
    StatusEvent,
    UnknownRunError,
)
from agent_client.blocking import Snapshots
from agent_client.snapshots import AsyncSnapshots
from shared.backend import Backend
from shared.errors import InvalidCursorError, InvalidIdError
from shared.identifier import new_run_id
from shared.memory_backend import build_memory_backend
from shared.notification.memory import MemoryNotifications
from shared.run import Ending, RunError, RunStatus
from tests.unit.client.puppet import AGENT, Doorbell, Puppet

BOTH = [
    (AsyncAgentClient, AgentClient),
    (AsyncRun, AgentRun),
    (AsyncManagedConversations, ManagedConversations),
    (AsyncSnapshots, Snapshots),
]


class HandMoved:
    """A blocking client over stores in memory, and a puppet that lives in the client's loop."""

    def __init__(self) -> None:
        self.backend = build_memory_backend(Settings())
        self.client = AgentClient(backend=self.backend, dispatcher=Doorbell())
        self.puppet = Puppet(self.backend)
        self.call = self.client._portal.call
        self.call(self.puppet.beat)

    def submit_and_finish(self, text: str, *answers: str) -> AgentRun:
        run = self.client.submit(AGENT, text)
        self.call(self.puppet.take, run.id)
        self.call(self.puppet.say, run.id, *answers)
        self.call(self.puppet.finish, run.id)
        return run


@pytest.fixture
def moved() -> Iterator[HandMoved]:
    moved = HandMoved()
    yield moved
    moved.client.close()


def until(is_so: Callable[[], bool]) -> None:
    """Wait, in a thread, until something is so."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_watched(backend: Backend) -> bool:
    notifications = backend.ledger.notifications
    assert isinstance(notifications, MemoryNotifications)
    return bool(notifications._listeners)


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "agent-client"]


@contextmanager
def ctrl_c_once(is_so: Callable[[], bool]) -> Iterator[None]:
    """Press Ctrl-C when something is so and the main thread waits; the block has to raise it."""
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        until(lambda: is_so() and sys._current_frames()[main].f_code.co_name == "wait")
        signal.pthread_kill(main, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    presser.join()


@pytest.mark.parametrize(("original", "face"), BOTH)
def test_nothing_public_is_missing(original: type, face: type) -> None:
    """Each public name of the async class is there, with the same parameters."""
    names = {name for name in vars(original) if not name.startswith("_")}
    apart = {"aclose", "local", "session", "id", "managed", "snapshots", "backend", "settings"}
    apart |= {"conversation_store"}
    for name in names - apart:
        theirs, ours = getattr(original, name), getattr(face, name)
        assert list(inspect.signature(ours).parameters) == list(
            inspect.signature(theirs).parameters
        )
        assert not inspect.iscoroutinefunction(ours)
        assert ours.__doc__ == theirs.__doc__


def test_a_run_is_submitted_read_and_awaited(moved: HandMoved) -> None:
    """Every call returns what the async one would."""
    run = moved.submit_and_finish("hello", "one", "two")
    assert run == moved.client.run(run.id)
    assert {run, moved.client.run(run.id)} == {run}
    assert repr(run) == f"AgentRun(id={run.id!r})"
    assert run.status() is RunStatus.COMPLETED
    assert run.get().input == "hello"
    assert run.output(timeout_s=5) == "done"
    assert assert_type(run.result(), Outcome).output == "done"
    assert_type(run.watch(), Generator[Message, None, None])
    assert [message.text for message in run.history()] == ["hello", "one", "two"]
    assert [message.text for message in run.watch()] == ["hello", "one", "two"]
    *_, last = run.events()
    assert isinstance(last, StatusEvent)
    assert run.cancel() is CancelResult.ALREADY_ENDED
    assert [record.id for record in moved.client.runs()] == [run.id]
    assert [agent.name for agent in moved.client.agents()] == [AGENT]
    assert [worker.id for worker in moved.client.workers()] == ["puppet-1"]


def test_conversations_are_read_watched_and_cleared(moved: HandMoved) -> None:
    """The client's own methods are there as well; leaving the loop ends an endless watch."""
    run = moved.client.submit(AGENT, "hello", conversation_id="web:ada")
    moved.call(moved.puppet.take, run.id)
    for message in moved.client.watch_conversation("web:ada"):
        assert message.text == "hello"
        break
    until(lambda: not is_watched(moved.backend))
    assert moved.client.conversations() == ["web:ada"]
    assert [message.text for message in moved.client.history("web:ada", limit=5)] == ["hello"]
    assert moved.client.clear("web:ada") == 1


def test_errors_are_those_of_the_async_client(moved: HandMoved) -> None:
    """An error crosses the threads as it is."""
    with pytest.raises(InvalidIdError):
        moved.client.run("rubbish")
    with pytest.raises(UnknownRunError):
        moved.client.run(new_run_id(3)).get()
    run = moved.client.submit(AGENT, "hello")
    with pytest.raises(ResultTimeoutError):
        run.result(timeout_s=0.01)
    with pytest.raises(InvalidCursorError):
        run.events(after="rubbish")
    moved.call(moved.puppet.take, run.id)
    error = RunError(code="model_error", message="no answer")
    moved.call(moved.puppet.finish, run.id, Ending(status=RunStatus.FAILED, error=error))
    with pytest.raises(RunFailedError, match="no answer"):
        run.output()


def test_a_watch_is_fed_while_it_waits(moved: HandMoved) -> None:
    """A message that is stored while a thread waits for it arrives there."""
    run = moved.client.submit(AGENT, "hello")
    messages = run.watch()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, messages)
        until(lambda: is_watched(moved.backend))
        moved.call(moved.puppet.take, run.id)
        assert first.result(10).text == "hello"
    messages.close()
    assert not is_watched(moved.backend)


def test_many_threads_share_one_client_and_one_loop(moved: HandMoved) -> None:
    """Threads that submit and watch at the same time each get their own, from a single loop."""

    def work(number: int) -> list[str]:
        run = moved.submit_and_finish(f"hello {number}", "answer")
        return [message.text for message in run.watch()]

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(work, range(64)))
    assert results == [[f"hello {number}", "answer"] for number in range(64)]
    assert len(loop_threads()) == 1


def test_ctrl_c_while_watching_leaves_cleanly(moved: HandMoved) -> None:
    """The thread is out at once, its subscription is gone, and the client can be used further."""
    run = moved.client.submit(AGENT, "hello")
    with ctrl_c_once(lambda: is_watched(moved.backend)):
        list(run.watch())
    assert not is_watched(moved.backend)
    assert run.cancel() is CancelResult.CANCELLED


def test_ctrl_c_while_waiting_for_a_result_leaves_cleanly(moved: HandMoved) -> None:
    """What the thread waited for is cancelled in the loop as well."""
    run = moved.client.submit(AGENT, "hello")
    with ctrl_c_once(lambda: is_watched(moved.backend)):
        run.result()
    until(lambda: not is_watched(moved.backend))


def test_who_was_interrupted_may_tidy_up(moved: HandMoved) -> None:
    """Cleaning up may take a while in the loop; it is cancelled once, not at each of its awaits."""
    started, tidied = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            tidied.set()

    with ctrl_c_once(started.is_set):
        moved.call(work)
    assert tidied.wait(10)


def test_closing_ends_what_other_threads_wait_for(moved: HandMoved) -> None:
    """Who waits when somebody closes the client gets a named error, and no thread is left."""
    run = moved.client.submit(AGENT, "hello")
    with ThreadPoolExecutor(2) as pool:
        waiting: list[Future[Any]] = [pool.submit(list, run.watch()), pool.submit(run.result)]
        until(lambda: is_watched(moved.backend))
        moved.client.close()
        for wait in waiting:
            with pytest.raises(RequestError, match="closed"):
                wait.result(10)
    assert loop_threads() == []


def test_a_closed_client_says_so(moved: HandMoved) -> None:
    """Closing twice is harmless; a call afterwards is an error, and an open iterator just ends."""
    run = moved.submit_and_finish("hello", "one")
    messages = run.watch()
    assert next(messages).text == "hello"
    moved.client.close()
    moved.client.close()
    messages.close()
    for call in (run.status, moved.client.workers, lambda: moved.client.submit(AGENT, "hello")):
        with pytest.raises(RequestError, match="closed"):
            call()


def test_a_client_that_is_never_used_starts_no_thread() -> None:
    """The loop starts with the first call."""
    with AgentClient(backend=build_memory_backend(Settings()), dispatcher=Doorbell()) as client:
        assert client.run(new_run_id(3)).id
        assert loop_threads() == []


def test_a_call_from_within_the_loop_is_refused(moved: HandMoved) -> None:
    """It would wait for itself for ever."""

    async def call_again() -> None:
        moved.client.workers()

    with pytest.raises(RuntimeError, match="event loop thread"):
        moved.call(call_again)


def test_a_program_that_forgets_to_close_still_ends() -> None:
    """The loop's thread does not keep the interpreter alive, not even with a watch half done."""
    program = """
from agent_client import AgentClient, Settings
from shared.memory_backend import build_memory_backend
from tests.unit.client.puppet import Doorbell

client = AgentClient(backend=build_memory_backend(Settings()), dispatcher=Doorbell())
run = client.submit("clerk", "hello")
events = run.events()
print(next(events).status)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert answer.stdout.splitlines()[-1] == "queued"
    assert "Traceback" not in answer.stderr


def test_a_client_that_nobody_holds_any_more_ends_its_thread() -> None:
    """A program that builds clients and forgets them does not pile up threads."""
    client = AgentClient(backend=build_memory_backend(Settings()), dispatcher=Doorbell())
    client.workers()
    assert len(loop_threads()) == 1
    del client
    gc.collect()
    until(lambda: loop_threads() == [])


def test_a_client_that_was_used_before_a_fork_says_so_instead_of_hanging() -> None:
    """Servers fork after loading the app: the child has no loop, and a call would wait for ever."""
    program = """
import os
from agent_client import AgentClient, RequestError, Settings
from shared.memory_backend import build_memory_backend
from tests.unit.client.puppet import Doorbell

client = AgentClient(backend=build_memory_backend(Settings()), dispatcher=Doorbell())
client.workers()
if os.fork() == 0:
    try:
        client.workers()
    except RequestError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "after the fork" in answer.stdout
