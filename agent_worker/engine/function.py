"""Plain functions as engines: an agent loop of one's own, or another SDK's agent."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final, cast

from pydantic import JsonValue, ValidationError

from agent_worker.context import RunInfo, in_run
from agent_worker.engine.protocol import EngineError, EngineEvent, EngineRequest, Finished
from agent_worker.saying import named
from shared.card.value import AgentCard
from shared.message import DataPart, Draft, Role, Usage
from shared.run import AgentInfo

Answering = Callable[[EngineRequest], Awaitable[JsonValue]]
"""Returns the output, which becomes the run's only answer."""
Telling = Callable[[EngineRequest], AsyncGenerator[EngineEvent, None]]
"""Yields messages and pieces of text as an engine does, and at its end `Finished` or nothing."""

_NOT_ITS_OWN: Final = (asyncio.CancelledError, GeneratorExit)
"""What somebody else raises in a function. Anything else, SystemExit too, is a failure of the run:
it must not end the process and all runs in it."""


class FunctionEngine:
    """Runs an async function.

    A function that *returns* its output gives one answer. Once that is stored, it is not called
    again.

    An async *generator* function yields messages, each before it starts what depends on it. When
    the run is taken over it is called again, with what it has yielded so far in `request.own`: it
    keeps the guarantees of an engine as far as it heeds that. Without a `Finished`, the text of its
    last answer is the output.

    Raises:
        TypeError: It is neither of the two.
    """

    def __init__(self, fn: Answering | Telling, *, name: str | None = None) -> None:
        self._answering = cast(Answering, fn) if inspect.iscoroutinefunction(fn) else None
        self._telling = cast(Telling, fn) if inspect.isasyncgenfunction(fn) else None
        if self._answering is None and self._telling is None:
            raise TypeError(f"{fn!r} is neither an `async def` function nor an async generator.")
        description = inspect.getdoc(fn)
        self._info = AgentInfo(
            name=name or fn.__name__,
            queue="",
            description=description.partition("\n")[0] if description else None,
        )

    @property
    def info(self) -> AgentInfo:
        return self._info

    def describe(self) -> AgentCard:
        """The agent's card. What a function tells a model, and which tools it has, is its own."""
        return AgentCard(
            agent=self._info.name, description=self._info.description, has_other_tools=True
        )

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Execute a run, or the rest of one.

        Raises:
            EngineError: The function raised it, or (code ``agent_error``) anything else, or
                (code ``max_rounds``) it answered too often.
        """
        if self._telling is not None:
            events = _tell(self._telling, request)
        elif self._answering is not None:
            events = _answer(self._answering, request)
        else:
            raise AssertionError("one of the two is set when the engine is built")
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()


async def _answer(fn: Answering, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
    told: list[Draft] = list(request.own)
    if told[-1].role is not Role.ASSISTANT:
        try:
            with in_run(request.run):
                output = await fn(request)
        except _NOT_ITS_OWN:
            raise
        except BaseException as error:
            raise _engine_error(error) from error
        told.append(_draft(output))
        yield told[-1]
    yield _finished(told)


def _draft(output: JsonValue) -> Draft:
    try:
        content = output if isinstance(output, str) else (DataPart(value=output),)
    except ValidationError as error:
        raise EngineError(
            "output_invalid",
            f"The function returned a {type(output).__name__} that is no JSON, or nested too deep.",
        ) from error
    return Draft(role=Role.ASSISTANT, content=content, usage=Usage(requests=1))


async def _tell(fn: Telling, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
    told: list[Draft] = list(request.own)
    events = fn(request)
    try:
        while (event := await _next(events, request.run)) is not None:
            if isinstance(event, Draft):
                told.append(event)
                _check_rounds(told, request)
            yield event
            if isinstance(event, Finished):
                return
    finally:
        await events.aclose()
    yield _finished(told)


async def _next(events: AsyncGenerator[EngineEvent, None], run: RunInfo) -> EngineEvent | None:
    """One step of the function; None at its end.

    The context is set for this step only: whoever takes the events may take each in another one.
    """
    try:
        with in_run(run):
            return await anext(events, None)
    except _NOT_ITS_OWN:
        raise
    except BaseException as error:
        raise _engine_error(error) from error


def _check_rounds(told: Sequence[Draft], request: EngineRequest) -> None:
    limit = request.limits.max_rounds
    if sum(draft.role is Role.ASSISTANT for draft in told) > limit:
        raise EngineError(
            "max_rounds",
            f"The run is not through after {limit} answers. Raise `max_rounds` of the run or the "
            "agent, or AGENTS_MAX_ROUNDS.",
        )


def _finished(told: Sequence[Draft]) -> Finished:
    answers = [draft for draft in told if draft.role is Role.ASSISTANT]
    if not answers:
        raise EngineError("agent_error", "The function ended without an answer.")
    usage = sum((draft.usage or Usage() for draft in told), Usage())
    return Finished(_output_of(answers[-1]), usage=usage, rounds=len(answers))


def _output_of(answer: Draft) -> JsonValue:
    content = answer.content
    if isinstance(content, tuple) and len(content) == 1 and isinstance(content[0], DataPart):
        return content[0].value
    return answer.text


def _engine_error(error: BaseException) -> EngineError:
    if isinstance(error, EngineError):
        return error
    return EngineError("agent_error", named(error))
