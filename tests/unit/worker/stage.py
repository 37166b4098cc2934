"""The stage on which workers are watched: a backend in memory, with a clock and faults to order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from agent_worker.definition import AgentDefinition, AgentOptions
from agent_worker.engine.protocol import Engine
from agent_worker.local import LocalDispatcher
from agent_worker.runtime import Runtime
from shared.backend import Backend
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import Writer
from shared.dispatch.protocol import Dispatcher
from shared.identifier import new_run_id, partition_of
from shared.ledger.memory import MemoryRunLedger
from shared.ledger.protocol import Sweep, WakeUp
from shared.message import Message
from shared.notification.memory import MemoryNotifications
from shared.run import Ending, Lease, NewRun, Run, RunStatus, WorkerInfo
from shared.settings import Settings
from shared.testing.waiting import eventually
from shared.version import FORMAT_VERSION
from tests.unit.worker.scripted import ScriptedEngine

AGENT: Final = "clerk"
TIMES: Final[dict[str, Any]] = {"lease_s": 3.0, "heartbeat_s": 0.05, "sweep_s": 0.02}

Fault = Callable[[], Awaitable[None]]
Value = TypeVar("Value")


class Clock:
    """The stores' clock. It goes by itself, and a test can put it forward."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += timedelta(seconds=seconds)


@dataclass
class Faults:
    """What goes wrong, once each, in the order in which it is asked for."""

    before: dict[str, deque[Fault]] = field(default_factory=dict)
    after: dict[str, deque[Fault]] = field(default_factory=dict)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, operation: str, *faults: Fault, after: bool = False) -> None:
        """Let the next calls of `operation` await these, before or after they have happened."""
        (self.after if after else self.before).setdefault(operation, deque()).extend(faults)

    async def hang(self) -> None:
        """A fault that ends with the test."""
        await self.over.wait()

    async def around(self, operation: str, work: Callable[[], Awaitable[Value]]) -> Value:
        if faults := self.before.get(operation):
            await faults.popleft()()
        answer = await work()
        if faults := self.after.get(operation):
            await faults.popleft()()
        return answer


def raises(error: Exception) -> Fault:
    """A fault that is an exception."""

    async def fault() -> None:
        raise error

    return fault


class FaultyConversations(MemoryConversationStore):
    """The real store, which also remembers how messages came: one list for each append."""

    def __init__(self, notifications: MemoryNotifications, clock: Clock, faults: Faults) -> None:
        super().__init__(notifications, clock=clock)
        self._faults = faults
        self.appends: list[list[str]] = []

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        work = partial(super().append, conversation_id, messages, writer=writer)
        cursors = await self._faults.around("append", work)
        self.appends.append([message.id for message in messages])
        return cursors


class FaultyLedger(MemoryRunLedger):
    """The real ledger."""

    def __init__(
        self, notifications: MemoryNotifications, settings: Settings, clock: Clock, faults: Faults
    ) -> None:
        super().__init__(notifications, settings, clock=clock)
        self._faults = faults

    async def lease(
        self,
        run_id: str,
        worker_id: str,
        *,
        agents: Collection[str],
        takes_suspect: bool = True,
        version: int = FORMAT_VERSION,
    ) -> Lease | None:
        work = partial(
            super().lease,
            run_id,
            worker_id,
            agents=agents,
            takes_suspect=takes_suspect,
            version=version,
        )
        return await self._faults.around("lease", work)

    async def finish(
        self, lease: Lease, ending: Ending, *, is_rolled_back: bool = False
    ) -> WakeUp | None:
        work = partial(super().finish, lease, ending, is_rolled_back=is_rolled_back)
        return await self._faults.around("finish", work)

    async def sweep(
        self,
        worker_id: str,
        *,
        agents: Collection[str],
        limit: int,
        version: int = FORMAT_VERSION,
    ) -> Sweep:
        work = partial(super().sweep, worker_id, agents=agents, limit=limit, version=version)
        return await self._faults.around("sweep", work)

    async def beat(self, worker: WorkerInfo) -> None:
        await self._faults.around("beat", partial(super().beat, worker))


class Bell:
    """A dispatcher that remembers whom it rang for. Nobody hears it."""

    is_distributed = True

    def __init__(self, *faults: Exception) -> None:
        self.rung: list[WakeUp] = []
        self._faults = list(faults)

    async def ring(self, wake_ups: Sequence[WakeUp]) -> None:
        if self._faults:
            raise self._faults.pop(0)
        self.rung.extend(wake_ups)

    async def aclose(self) -> None:
        """Nothing to close."""


class Stage:
    """A backend, the workers on it, and what a test wants to know of them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings(**TIMES | settings)
        self.clock = Clock()
        self.faults = Faults()
        notifications = MemoryNotifications()
        self.conversations = FaultyConversations(notifications, self.clock, self.faults)
        self.ledger = FaultyLedger(notifications, self.settings, self.clock, self.faults)
        self.backend = Backend(ledger=self.ledger, conversations=self.conversations)
        self._open = AsyncExitStack()

    def worker(
        self,
        engine: Engine,
        *,
        options: AgentOptions | None = None,
        dispatcher: Dispatcher | None = None,
        name: str = AGENT,
    ) -> Runtime:
        """A worker that serves one agent. It neither beats nor sweeps until it is started."""
        definition = AgentDefinition(name, engine, options or AgentOptions())
        local = LocalDispatcher()
        runtime = Runtime(self.settings, self.backend, dispatcher or local, {name: definition})
        local.connect(runtime)
        self._open.push_async_callback(runtime.shutdown, 0)
        self._open.push_async_callback(local.aclose)
        return runtime

    async def submit(self, conversation_id: str | None = None, **fields: Any) -> str:
        """Submit a run without ringing anybody; return its id."""
        partition = partition_of(conversation_id) if conversation_id is not None else 7
        asked: dict[str, Any] = {"agent": AGENT, "input": "hello"} | fields
        new = NewRun(id=new_run_id(partition), conversation_id=conversation_id, **asked)
        return (await self.ledger.submit(new)).run.id

    async def ended(self, run_id: str) -> Run:
        """The run, once it has ended."""

        async def probe() -> Run | None:
            run = await self.ledger.get(run_id)
            return run if run.status.is_final else None

        run = await eventually(probe)
        assert run is not None
        return run

    async def execute(self, engine: ScriptedEngine, run_id: str, **worker: Any) -> Run:
        """Let a worker of its own execute the run; return the run once it has ended."""
        assert await self.worker(engine, **worker).wake(run_id)
        return await self.ended(run_id)

    async def history(self, run_id: str) -> list[Message]:
        """All messages where the run's are kept."""
        run = await self.ledger.get(run_id)
        return await self.conversations.list_messages(run.history_id)

    async def crash(self, *run_ids: str) -> None:
        """Let a worker take runs and die."""
        for run_id in run_ids:
            assert await self.ledger.lease(run_id, "dead", agents=[AGENT]) is not None
        self.clock.advance(self.settings.lease_s + 1)
        await self.ledger.sweep("sweeper", agents=[], limit=0)
        for run_id in run_ids:
            assert (await self.ledger.get(run_id)).status is RunStatus.QUEUED

    async def aclose(self) -> None:
        self.faults.over.set()
        await self._open.aclose()


class Pause:
    """Holds an engine at one step, once: whoever comes there later is let through."""

    def __init__(self, step: int) -> None:
        self._step: int | None = step
        self.reached = asyncio.Event()
        self.released = asyncio.Event()

    async def __call__(self, step: int) -> None:
        if step == self._step:
            self._step = None
            self.reached.set()
            await self.released.wait()


async def idle(runtime: Runtime) -> None:
    """Wait until the worker executes nothing."""

    async def probe() -> bool:
        return not runtime.active

    await eventually(probe)


def told(messages: Sequence[Message]) -> list[tuple[Any, ...]]:
    """What the messages say, in the form that two executions of one run have in common."""
    return [
        (message.position, message.role.value, message.kind.value, message.text,
         message.tool_name, message.tool_call_id, message.outcome)
        for message in messages
    ]  # fmt: skip
