"""The drive: an engine at work, each message of it stored before it goes on."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Any, Final

import structlog

from agent_worker.context import in_run
from agent_worker.engine.protocol import (
    Engine,
    EngineError,
    EngineEvent,
    EngineRequest,
    Finished,
    TextDelta,
)
from agent_worker.execution.admission import refused
from agent_worker.execution.closing import describe, failed, open_calls
from agent_worker.execution.deltas import DeltaStream
from agent_worker.execution.tenure import Tenure
from agent_worker.execution.transcript import Transcript
from agent_worker.saying import said_by
from agent_worker.window.protocol import Window
from shared.errors import (
    FencedError,
    NewerVersionError,
    StoreUnavailableError,
    UnknownRunError,
)
from shared.message import Draft, Message, MessageKind, Role
from shared.run import Ending, RunStatus

HALT_S: Final = 1.0
"""How long a cancelled engine may take to let go before it is left behind."""

SETTLE_S: Final = 1.0
"""How long, at most, the results of tools that ended in time are waited for."""

STORING_POLL_S: Final = 0.01
"""How often the end of a write is looked for while the engine is about to be stopped."""

SETTLED: Final = 50
"""After so many turns of the event loop in which nothing came, nothing is on its way. From a tool's
end to its message it takes about ten."""

CLEAN_UP_S: Final = 5.0
"""How long an engine that has ended may take to clean up before its run goes on without it."""

_WAITED_FOR: Final = frozenset({Role.ASSISTANT, Role.TOOL})
_OF_THE_STORE: Final = (
    FencedError,
    NewerVersionError,
    StoreUnavailableError,
    UnknownRunError,
)
"""What a window is not to blame for."""

log = structlog.get_logger()


class Stop(Enum):
    """Why an engine is stopped before it is through."""

    CANCEL = auto()
    HAND_OVER = auto()
    LOST = auto()


LookBack = Callable[[Sequence[Message], Callable[[], Awaitable[None]]], Awaitable[Window]]
"""Gets the run's own messages and `EngineRequest.confirm`."""


class Drive:
    """Runs an engine in a task of its own and writes down what it yields.

    A message that the engine has yielded is in the transcript, whatever happens next, and where
    `saves_each` is set it is stored before the engine goes on. A write that is cut off by a stop
    is in doubt: who ends the run, or hands it over, flushes the transcript once more.
    `on_progress` is awaited when the first message is stored.

    `look_back` chooses the run's window, before the engine starts and under the same limits. What
    it writes in the place of older messages is stored like a message of the engine.
    """

    def __init__(
        self,
        engine: Engine,
        request: EngineRequest,
        transcript: Transcript,
        deltas: DeltaStream,
        tenure: Tenure,
        *,
        look_back: LookBack,
        saves_each: bool,
        on_progress: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._engine = engine
        self._request = dataclasses.replace(request, confirm=self._confirm)
        self._tenure = tenure
        self._transcript = transcript
        self._deltas = deltas
        self._look_back = look_back
        self._saves_each = saves_each
        self._on_progress = on_progress
        self._is_leaving = False
        self._is_halted = False
        self._is_storing = False
        self._yielded = 0
        self._last_results: asyncio.Task[None] | None = None
        self._ending: Ending | None = None
        self._stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    def stop(self, why: Stop) -> None:
        """Cancel the engine. The first reason counts."""
        if not self._stop.done():
            self._stop.set_result(why)

    def leave(self, grace_s: float) -> None:
        """Stop where nothing is lost.

        At once while a model is asked, else when the tools that are running have ended, or
        `grace_s` is over.
        """
        self._is_leaving = True
        if self._is_at_safe_point():
            self.stop(Stop.HAND_OVER)
        else:
            asyncio.get_running_loop().call_later(grace_s, self._end_grace)

    async def run(self, time_limit_s: float) -> Ending | None:
        """Drive the engine to the end of the run. None: it was stopped to be handed over.

        Raises:
            FencedError: The run belongs to another worker now.
            StoreUnavailableError: The store was away for too long.
        """
        engine = asyncio.create_task(self._consume(), name=f"engine:{self._request.run.run_id}")
        awaited: set[asyncio.Future[Any]] = {engine, self._stop}
        try:
            await asyncio.wait(awaited, timeout=time_limit_s, return_when=asyncio.FIRST_COMPLETED)
            is_late = not engine.done() and not self._stop.done()
        finally:
            if self._last_results is not None:
                self._last_results.cancel()
            await self._halt(engine)
            await self._deltas.aclose()
        return self._judge(engine, time_limit_s if is_late else None)

    def _is_at_safe_point(self) -> bool:
        """Whether another worker could go on and repeat nothing but a model call.

        A run that is stored as a whole has no such point before its end.
        """
        return self._saves_each and not open_calls(self._transcript.messages)

    def _end_grace(self) -> None:
        """Stop the tools, then, once those that ended are stored, the engine."""
        if self._last_results is None:
            self._request.cut_off.give()
            self._last_results = asyncio.create_task(self._wait_settled(), name="last results")

    async def _wait_settled(self) -> None:
        idle, seen = 0, self._yielded
        with suppress(TimeoutError):  # a write that hangs is made again when the run is given back
            async with asyncio.timeout(SETTLE_S):
                while idle < SETTLED:
                    await asyncio.sleep(STORING_POLL_S if self._is_storing else 0)
                    is_quiet = self._yielded == seen and not self._is_storing
                    idle, seen = (idle + 1 if is_quiet else 0), self._yielded
        self.stop(Stop.HAND_OVER)

    async def _consume(self) -> None:
        with in_run(self._request.run):
            await self._confirm()
            request = await self._with_window()
            if request is None:
                return
            events = self._engine.run(request)
            try:
                await self._follow(events)
            finally:
                await _close(events)

    async def _with_window(self) -> EngineRequest | None:
        """The request with what its model is shown before it. None: the run ends, or is stopped."""
        try:
            window = await self._look_back(self._transcript.messages, self._confirm)
        except EngineError as error:
            self._ending = failed(error.code, said_by(error))
            return None
        except (*_OF_THE_STORE, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit too, or one policy could end the process
            log.exception("window.broken")
            self._ending = failed("window_failed", describe(error))
            return None
        if window.summary is not None and not await self._take(window.summary):
            return None
        own = self._transcript.messages
        return dataclasses.replace(
            self._request,
            history=window.messages,
            own=tuple(message for message in own if message.kind is not MessageKind.SUMMARY),
            position=self._transcript.next_position,
        )

    async def _follow(self, events: AsyncGenerator[EngineEvent, None]) -> None:
        waiting_since = time.monotonic()
        while True:
            event = await _next(events)
            self._yielded += 1
            if self._is_halted:
                return
            if isinstance(event, Ending):
                self._ending = event
                return
            if isinstance(event, TextDelta):
                self._deltas.push(event.text, position=self._transcript.next_position)
                continue
            if not await self._take(_timed(event, waiting_since)):
                return
            waiting_since = time.monotonic()

    async def _take(self, draft: Draft) -> bool:
        """Write a message down; return whether what depends on it may start."""
        if self._is_halted:
            return False
        if (refusal := refused(draft, self._request.limits.max_message_bytes)) is not None:
            self._ending = refusal
            return False
        self._transcript.add(draft)
        await self._store()
        await self._confirm()  # for engines that start their tools without asking
        # Behind a stop, what depends on the message would start, and end in front of nobody.
        return not (self._stop.done() or (self._is_leaving and self._is_at_safe_point()))

    async def _store(self) -> None:
        self._is_storing = True
        try:
            await self._deltas.flush()  # a reader sees the pieces before the whole
            if self._saves_each:
                await self._transcript.flush()
                await self._tell_progress()
        finally:
            self._is_storing = False

    async def _tell_progress(self) -> None:
        if self._on_progress is not None:
            await self._on_progress()
            self._on_progress = None

    async def _confirm(self) -> None:
        """See `EngineRequest.confirm`. Once the run is lost this waits to be cancelled."""
        try:
            await self._tenure.confirm()
        except (FencedError, UnknownRunError, StoreUnavailableError):
            self.stop(Stop.LOST)
            await asyncio.get_running_loop().create_future()

    async def _halt(self, engine: asyncio.Task[None]) -> None:
        if engine.done():
            return
        self._is_halted = True  # an engine that ignores its cancellation is not listened to
        engine.cancel()
        await asyncio.wait({engine}, timeout=HALT_S)
        if not engine.done():
            log.error("engine.stuck", waited_s=HALT_S)

    def _judge(self, engine: asyncio.Task[None], exceeded_s: float | None) -> Ending | None:
        if self._ending is not None:
            return self._ending
        if engine.done() and not engine.cancelled():
            engine.result()  # raises what the store raised
        if exceeded_s is not None:
            return failed(
                "time_limit",
                f"The run took longer than {exceeded_s:g} s. Raise `time_limit_s` of the run or "
                "the agent, or AGENTS_TIME_LIMIT_S.",
            )
        return self._judge_stop(is_cancelled=engine.cancelled())

    def _judge_stop(self, *, is_cancelled: bool) -> Ending | None:
        why = self._stop.result() if self._stop.done() else None
        if why is Stop.LOST:
            raise FencedError("The ledger does not count this run among those of this worker.")
        if why is Stop.CANCEL:
            return Ending(status=RunStatus.CANCELLED)
        if why is None and is_cancelled:
            return failed("internal_error", "The engine was cancelled by code of its own.")
        return None


def _timed(draft: Draft, waiting_since: float) -> Draft:
    """The message with the time that the run waited for it, from the one before it was stored."""
    if draft.role not in _WAITED_FOR or draft.waited_ms is not None:
        return draft
    waited_ms = round((time.monotonic() - waiting_since) * 1000)
    return draft.model_copy(update={"waited_ms": waited_ms})


async def _next(events: AsyncGenerator[EngineEvent, None]) -> Draft | TextDelta | Ending:
    """What the engine yields next, or how it ended.

    Its exceptions are turned into an ending here, so that they cannot be taken for the store's.
    """
    try:
        event = await anext(events)
    except EngineError as error:
        return failed(error.code, said_by(error))
    except StopAsyncIteration:
        return failed("internal_error", "The engine ended without saying that it had finished.")
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit too, or one engine could end the process
        log.exception("engine.broken")
        return failed("internal_error", describe(error))
    if not isinstance(event, Finished):
        return event
    return Ending(
        status=RunStatus.COMPLETED, output=event.output, usage=event.usage, rounds=event.rounds
    )


async def _close(events: AsyncGenerator[EngineEvent, None]) -> None:
    """Let the engine clean up. What goes wrong there does not change how the run ended."""
    try:
        async with asyncio.timeout(CLEAN_UP_S):
            await events.aclose()
    except asyncio.CancelledError:
        raise
    except BaseException:
        log.exception("engine.unclean")
