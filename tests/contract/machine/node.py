"""A node: a real worker whose clockwork the machine turns by hand.

`Runtime` and `Executor` are the product's. They are not started in the background: the machine
decides when the worker beats, sweeps and hears a ring, when each of its calls reaches the store
and whether the answer comes back, and what its engine does next.
"""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

from agent_worker.definition import AgentDefinition
from agent_worker.engine.protocol import EngineError, EngineEvent, EngineRequest, Finished
from agent_worker.runtime import Runtime
from shared.backend import Backend
from shared.errors import AgentsError, StoreUnavailableError
from shared.ledger.protocol import WakeUp
from shared.message import Draft, MessageKind, Role, ToolCall, Usage, tool_result_draft
from shared.run import AgentInfo
from shared.settings import Settings
from tests.contract.machine.gate import AT_ONCE, Call, Gate, gated

MANY_CALLS: Final = 3
ANSWER: Final = MANY_CALLS
"""What an engine decides that comes to an end: a result of an open call, else a final answer."""
FOR_EVER_S: Final = 1e6


class Node:
    """One worker, and the calls of it that wait."""

    def __init__(
        self,
        worker_id: str,
        backend: Backend,
        settings: Settings,
        agents: Sequence[str],
        ring: Callable[[Sequence[WakeUp]], None],
    ) -> None:
        self.gate = Gate()
        self.is_leaving = False
        self._settings = settings
        self._sweeping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # a loop alone does not keep them
        engine = ScriptedEngine(self.gate)
        self.runtime = Runtime(
            settings,
            gated(backend, self.gate),
            RecordedRings(ring),
            {name: AgentDefinition(name, engine) for name in agents},
            worker_id,
        )

    @property
    def worker_id(self) -> str:
        return self.runtime.worker_id

    @property
    def waiting(self) -> list[Call]:
        """Its calls that have not happened yet."""
        return self.gate.waiting

    @property
    def is_idle(self) -> bool:
        return not self.gate.waiting and not self.runtime.active

    def check_engines(self) -> None:
        """No engine is at work on a run that was asked to stop, or crashed too often, before."""
        at_work = {call.what for call in self.waiting if call.verb == "decide"}
        for run_id in at_work & self.runtime.active:
            leased = self.runtime._active[run_id].executor._lease.run
            assert not leased.cancel_requested, f"{leased} is executed though it shall stop"
            assert leased.strikes < self._settings.max_crashes, f"{leased} is tried once more"

    async def beat(self) -> None:
        """Tell that the worker lives."""
        await self._start(self.runtime._beat())

    async def hear_ring(self, run_id: str) -> None:
        """A ring comes in."""
        await self._start(self.runtime.wake(run_id))

    async def hear_cancel(self, run_id: str) -> None:
        """The hint that a run shall stop comes in."""
        await self._start(self.runtime._look_up_cancel(run_id))

    @property
    def can_sweep(self) -> bool:
        """Whether the last sweep is through."""
        return self._sweeping is None or self._sweeping.done()

    async def sweep(self) -> None:
        """Begin a sweep, unless the last one is not through."""
        if self.can_sweep:
            self._sweeping = await self._start(self.runtime._sweep())

    async def leave(self) -> None:
        """The worker is told to stop; its runs go on to the next safe point."""
        self.is_leaving = True
        await self._start(self.runtime.shutdown(FOR_EVER_S))

    async def lose_patience(self) -> None:
        """The grace of a worker that stops is over: its runs are handed over where they are."""
        for active in list(self.runtime._active.values()):
            active.executor.hand_over(0)
        await self.settle()

    async def let(self, call: Call, decision: int = 0) -> None:
        """Let a call happen, and the worker go on to its next one."""
        if call.verb == "decide":
            return await self._answer(call, decision)
        try:
            answer = await call.perform()
        except AgentsError as error:
            return await self._fail(call, error)
        return await self._answer(call, answer)

    async def lose_answer(self, call: Call) -> None:
        """Let a call happen; its worker does not learn how it went."""
        with suppress(AgentsError):
            await call.perform()
        await self.lose_call(call)

    async def lose_call(self, call: Call) -> None:
        """Tell the worker that nobody answers; the call did not happen, or not yet."""
        await self._fail(call, StoreUnavailableError("lost"))

    async def settle(self) -> None:
        """Wait until the worker does nothing but wait for its calls."""
        await quiet()
        while at_once := [call for call in self.waiting if call.verb in AT_ONCE]:
            for call in at_once:
                answer = await call.perform()
                if not call.answer.done():  # a worker bounds these by a time of its own
                    call.answer.set_result(answer)
            await quiet()

    async def _answer(self, call: Call, answer: Any) -> None:
        if not call.answer.done():
            call.answer.set_result(answer)
        await self.settle()

    async def _fail(self, call: Call, error: Exception) -> None:
        if not call.answer.done():
            call.answer.set_exception(error)
        await self.settle()

    async def _start(self, work: Coroutine[Any, Any, object]) -> "asyncio.Task[None]":
        async def known_errors_are_no_end() -> None:
            with suppress(AgentsError):  # as the worker's background does
                await work

        task = asyncio.create_task(known_errors_are_no_end(), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await self.settle()
        return task


class ScriptedEngine:
    """An engine that asks the machine what happens next.

    As every engine it goes on after what is stored: an open call first, and no model call behind a
    final answer. Ids of calls repeat in each message, as those of some providers do.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    @property
    def info(self) -> AgentInfo:
        return AgentInfo(name="scripted", queue="")

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Execute a run, or the rest of one."""
        own: list[Draft] = list(request.own)
        assert own[0].role is Role.USER, f"a run begins with its input, not with {own[0]}"
        while not _is_answer(own[-1]):
            decision = await self._gate.decide(request.run.run_id)
            own.append(_next_draft(own, decision))
            yield own[-1]
        yield Finished(output=own[-1].text, usage=Usage(), rounds=1)


class RecordedRings:
    """A dispatcher that keeps the rings for the machine to deliver, or not."""

    is_distributed = True

    def __init__(self, ring: Callable[[Sequence[WakeUp]], None]) -> None:
        self._ring = ring

    async def ring(self, wake_ups: Sequence[WakeUp]) -> None:
        self._ring(wake_ups)

    async def aclose(self) -> None:
        """Nothing is open."""


async def quiet() -> None:
    """Wait until everything on this loop waits for something that the machine does."""
    ready: Any = getattr(asyncio.get_running_loop(), "_ready")  # noqa: B009  typed as private
    rounds = 0
    while rounds < 3:  # a timer without delay comes one round later
        await asyncio.sleep(0)
        rounds = 0 if ready else rounds + 1


def _next_draft(own: Sequence[Draft], decision: int) -> Draft:
    if missing := _missing(own):
        return tool_result_draft(missing[decision % len(missing)], "found")
    asked = decision % (MANY_CALLS + 3) + 1
    if asked > MANY_CALLS + 2:
        raise EngineError("model_error", "The model is ill.")
    if asked > MANY_CALLS:
        return Draft(role=Role.ASSISTANT, content="answer")
    calls = tuple(
        ToolCall(id=f"call-{number}", name="look", arguments="{}") for number in range(asked)
    )
    return Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=calls)


def _missing(own: Sequence[Draft]) -> list[ToolCall]:
    """Calls of the last round without a result."""
    last = max(place for place, one in enumerate(own) if one.role is not Role.TOOL)
    answered = {one.tool_call_id for one in own[last + 1 :]}
    return [call for call in own[last].tool_calls if call.id not in answered]


def _is_answer(message: Draft) -> bool:
    return message.role is Role.ASSISTANT and not message.tool_calls
