"""What is done to an answer first: sizes checked, text made whole, ids told apart."""

from typing import Any, Final

from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)

from agent_worker.engine.protocol import EngineError
from agent_worker.engine.pydantic_ai.calls import unique_ids
from shared.codec import storable

MAX_CALLS: Final = 1_000
"""Tool calls in one answer. Each is a task, a message and, for a sync tool, a thread."""


class SizeCheck:
    """Counts an answer while it is written, so that one without end is given up in time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0

    def add(self, event: ModelResponseStreamEvent) -> None:
        """Raises `EngineError` once there is more than is allowed."""
        if isinstance(event, PartStartEvent):
            self._size += _size_of(event.part)
        elif isinstance(event, PartDeltaEvent):
            self._size += _size_of(event.delta)
        if self._size > self._limit:
            raise _too_large(self._limit)


def check_answer(response: ModelResponse, limit: int) -> None:
    """Raises `EngineError` for an answer that is too large, or asks for too many tools."""
    if sum(_size_of(part) for part in response.parts) > limit:
        raise _too_large(limit)
    if (count := len(response.tool_calls)) > MAX_CALLS:
        raise EngineError(
            "answer_too_large",
            f"The model asked for {count} tools in one answer; at most {MAX_CALLS} are executed.",
        )


def make_storable(response: ModelResponse) -> None:
    """Put U+FFFD for halves of surrogate pairs, which models do write.

    They cannot be stored, nor be sent to a provider again: the run would end at its next call.
    """
    for part in response.parts:
        if isinstance(part, TextPart | ThinkingPart):
            part.content = storable(part.content)
        elif isinstance(part, ToolCallPart):
            part.args = storable(part.args)
            part.tool_name = storable(part.tool_name)
            part.tool_call_id = storable(part.tool_call_id)


def tell_calls_apart(response: ModelResponse) -> dict[str, str]:
    """Give calls that share an id, which Pydantic AI refuses, ids of their own.

    Answers with the ids that changed, and for each what the model wrote.
    """
    renamed: dict[str, str] = {}
    calls = response.tool_calls
    written = [call.tool_call_id for call in calls]
    for call, own in zip(calls, unique_ids(written), strict=True):
        if call.tool_call_id != own:
            renamed[own] = call.tool_call_id
            call.tool_call_id = own
    return renamed


def _size_of(part: Any) -> int:
    """Characters, roughly bytes. What is neither text nor arguments is small or counted later."""
    if isinstance(part, TextPart | ThinkingPart):
        return len(part.content)
    if isinstance(part, TextPartDelta | ThinkingPartDelta):
        return len(part.content_delta or "")
    if isinstance(part, ToolCallPart):
        return len(str(part.args or ""))
    if isinstance(part, ToolCallPartDelta):
        return len(str(part.args_delta or ""))
    return 0


def _too_large(limit: int) -> EngineError:
    return EngineError(
        "answer_too_large",
        f"The model's answer takes more than {limit} bytes (AGENTS_MAX_MESSAGE_BYTES). Limit it "
        "with the model's `max_tokens`, or raise the setting.",
    )
