"""Summarisers: what turns messages into the text that stands for them."""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from agent_worker.window.protocol import WindowRequest
from agent_worker.window.shortening import written_json
from shared.errors import AgentDefinitionError
from shared.message import Message, Price, Role, TextPart, Usage

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.models import Model

BATCH_BYTES: Final = 60_000
"""What a summariser is given at once, about. More is given in parts, each on top of the last."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A text that stands for messages, and what it took to write it."""

    text: str
    usage: Usage = field(default_factory=Usage)
    price: Price | None = None
    """None: nobody says, so that the cost of the run is not known."""


SummaryFunction = Callable[[str | None, Sequence[Message]], Awaitable[str | Summary]]
"""Gets the summary so far (None at first) and the messages that follow it, oldest first and in
whole pairs; returns one summary of both."""

Summariser = Callable[[str | None, Sequence[Message], WindowRequest], Awaitable[Summary]]
"""The same in the one form that the policy works with."""


def summariser_of(by: "SummaryFunction | AbstractAgent[Any, str] | Model | str") -> Summariser:
    """The summariser that somebody named: a model, an agent or an async function.

    Nothing is imported or connected that `by` does not bring along; a model by name is looked up
    when it is first needed.

    Raises:
        AgentDefinitionError: It is none of these.
    """
    if isinstance(by, str):
        return _lazily(by)
    if inspect.iscoroutinefunction(by):
        return _of_function(cast(SummaryFunction, by))
    if type(by).__module__.partition(".")[0] == "pydantic_ai" or _is_of_pydantic_ai(by):
        return _lazily(by)
    raise AgentDefinitionError(
        f"{by!r} cannot summarise. Name a model, such as 'openai:gpt-4o-mini', or pass a Pydantic "
        "AI model or agent, or an `async def` function of the summary so far and the messages."
    )


def in_batches(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages in stretches of about `BATCH_BYTES`, cut where no call loses its results."""
    start, size = 0, 0
    for place, message in enumerate(messages):
        if size > BATCH_BYTES and message.role is not Role.TOOL:
            yield messages[start:place]
            start, size = place, 0
        size += sum(len(text.encode(errors="replace")) for text in _said(message))
    yield messages[start:]


def _lazily(by: Any) -> Summariser:
    async def summarise(
        so_far: str | None, messages: Sequence[Message], request: WindowRequest
    ) -> Summary:
        from agent_worker.engine.pydantic_ai.summarising import summarise_with

        return Summary(
            *await summarise_with(
                by, so_far, messages, limits=request.limits, confirm=request.confirm
            )
        )

    return summarise


def _of_function(function: SummaryFunction) -> Summariser:
    async def summarise(
        so_far: str | None, messages: Sequence[Message], request: WindowRequest
    ) -> Summary:
        await request.confirm()
        made = await function(so_far, messages)
        return Summary(made) if isinstance(made, str) else made

    return summarise


def _is_of_pydantic_ai(value: object) -> bool:
    kinds = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    return "pydantic_ai" in kinds


def _said(message: Message) -> Iterator[str]:
    if isinstance(message.content, str):
        yield message.content
    for part in message.content if isinstance(message.content, tuple) else ():
        yield part.text if isinstance(part, TextPart) else written_json(part.model_dump())
    for call in message.tool_calls:
        yield call.arguments
