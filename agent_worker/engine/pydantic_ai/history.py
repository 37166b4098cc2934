"""History: stored messages as the list of messages that Pydantic AI works with, and back."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from agent_worker.engine.pydantic_ai.answers import (
    native_call_ids,
    native_response,
    response_draft,
)
from agent_worker.engine.pydantic_ai.calls import OpenCalls
from agent_worker.engine.pydantic_ai.content import Json, difference
from agent_worker.engine.pydantic_ai.engine_data import dump, engine_data, with_data
from agent_worker.engine.pydantic_ai.parts import native_follow_up, native_part, part_draft
from shared.message import Draft, Message, Role

_PLAIN_REQUEST: Final[Json] = {"kind": "request", "state": "complete"}


@dataclass(frozen=True, slots=True)
class RecordedResult:
    """What a finished tool call gave, as Pydantic AI needs it to go on."""

    part: ToolReturnPart
    follow_up: str | Sequence[UserContent] | None = None
    tools: list[str] | None = None
    said: Sequence[ModelRequestPart] = ()
    """What the tool put into the run for the next model call."""
    has_output: bool = False
    output: Any = None
    """What an output function made of the call's arguments; JSON."""


def model_messages(messages: Iterable[Message]) -> list[ModelMessage]:
    """Read a history. Results and prompts between two answers become one request.

    Notes (errors and summaries) are left out. A message whose engine data cannot be read is taken
    as if another engine had written it.
    """
    kept = [message for message in messages if not message.kind.is_note]
    try:
        return ModelMessagesTypeAdapter.validate_python(_assemble(kept))
    except (ValidationError, LookupError, TypeError, ValueError):
        readable = [message if _is_readable(message) else _portable(message) for message in kept]
        return ModelMessagesTypeAdapter.validate_python(_assemble(readable))


def message_drafts(messages: Sequence[ModelMessage]) -> list[Draft]:
    """Write a whole history down, losslessly: `model_messages` gives the same list back.

    A request with several parts becomes several messages; its own fields ride on the first one.
    """
    return [draft for message in messages for draft in _drafts(message)]


def recorded_results(answer: Message, results: Iterable[Message]) -> dict[int, RecordedResult]:
    """The results of an answer's calls, by the index of the call."""
    native_ids = native_call_ids(answer)
    calls = OpenCalls([call.id for call in answer.tool_calls], native_ids)
    recorded: dict[int, RecordedResult] = {}
    for result in results:
        index = calls.close(result.tool_call_id or "", engine_data(result).get("index"))
        if index is not None:
            recorded[index] = _recorded(result, native_ids[index])
    return recorded


def _recorded(result: Message, call_id: str) -> RecordedResult:
    [request] = model_messages([result])
    part = next(part for part in request.parts if isinstance(part, ToolReturnPart))
    part.tool_call_id = call_id
    follow_up = next((p.content for p in request.parts if isinstance(p, UserPromptPart)), None)
    data = engine_data(result)
    return RecordedResult(
        part,
        follow_up,
        tools=data.get("tools"),
        said=_native_parts(data.get("said", [])),
        has_output="output" in data,
        output=data.get("output"),
    )


def _native_parts(dumped: list[Json]) -> Sequence[ModelRequestPart]:
    [request] = ModelMessagesTypeAdapter.validate_python([{"kind": "request", "parts": dumped}])
    return request.parts if isinstance(request, ModelRequest) else ()


# --- from messages to requests and responses ------------------------------------------------------


@dataclass(slots=True)
class _Said:
    """A part of the request that is being put together."""

    part: Json
    index: int | None = None
    tools: list[str] | None = None
    follow_up: Json | None = None


@dataclass(slots=True)
class _Request:
    """The request that is being put together."""

    said: list[_Said] = field(default_factory=list)
    fields: Json | None = None

    def assemble(self, beyond: Json | None) -> Iterator[Json]:
        """The request, if there is one. `beyond` is what its answer noted about it."""
        if not self.said and self.fields is None and beyond is None:
            return
        parts = list(_in_order(self.said, with_reveals=beyond is None))
        beyond = dict(beyond or {})
        # Book-keeping stands behind so many parts that messages tell.
        for place, part in reversed(beyond.pop("parts", [])):
            parts.insert(place, part)
        yield {**_PLAIN_REQUEST, **(self.fields or {}), **beyond, "parts": parts}


def _assemble(messages: Iterable[Message]) -> list[Json]:
    """All requests and responses, in their JSON form."""
    assembled: list[Json] = []
    request, calls = _Request(), OpenCalls()
    for message in messages:
        data = engine_data(message)
        if message.role is Role.ASSISTANT:
            assembled += request.assemble(data.get("request"))
            assembled.append({"timestamp": message.created_at, **native_response(message)})
            stored_ids = [call.id for call in message.tool_calls]
            request, calls = _Request(), OpenCalls(stored_ids, native_call_ids(message))
            continue
        if "request" in data:
            assembled += request.assemble(None)
            request = _Request(fields=data["request"])
        if not data.get("nothing"):
            request.said.append(_said(message, data, calls))
    assembled += request.assemble(None)
    return assembled


def _said(message: Message, data: Json, calls: OpenCalls) -> _Said:
    part = {"timestamp": message.created_at, **native_part(message)}
    if message.role is not Role.TOOL:
        return _Said(part)
    stored_id = message.tool_call_id or ""
    index = calls.close(stored_id, data.get("index"))
    part["tool_call_id"] = calls.native_id(index, stored_id)
    said = _Said(part, data.get("index"), data.get("tools"))
    if (content := native_follow_up(message)) is not None:
        said.follow_up = {
            "part_kind": "user-prompt",
            "content": content,
            "timestamp": message.created_at,
        }
    return said


def _in_order(said: Sequence[_Said], *, with_reveals: bool) -> Iterator[Json]:
    """The order in which Pydantic AI has the parts: results by their calls, then what follows them.

    Results are stored in the order in which the tools ended.
    """
    results = [one for one in said if one.part["part_kind"] == "tool-return"]
    if all(one.index is not None for one in results):
        results.sort(key=lambda one: one.index or 0)
    ordered = iter(results)
    follow_ups: list[Json] = []
    waiting = len(results)
    for one in said:
        if one.part["part_kind"] != "tool-return":
            yield one.part
            continue
        result = next(ordered)
        yield result.part
        if with_reveals and result.tools:
            yield _reveal(result)
        if result.follow_up:
            follow_ups.append(result.follow_up)
        waiting -= 1
        if not waiting:
            yield from follow_ups


def _reveal(result: _Said) -> Json:
    return {
        "part_kind": "tool-availability-delta",
        "tools_added": result.tools,
        "tool_call_id": result.part["tool_call_id"],
    }


def _is_readable(message: Message) -> bool:
    try:
        ModelMessagesTypeAdapter.validate_python(_assemble([message]))
    except (ValidationError, LookupError, TypeError, ValueError):
        return False
    return True


def _portable(message: Message) -> Message:
    return message.model_copy(update={"engine": None})


# --- from requests and responses to messages ------------------------------------------------------


def _drafts(message: ModelMessage) -> Iterator[Draft]:
    if not isinstance(message, ModelRequest):
        yield response_draft(message)
        return
    fields = _fields(message)
    if not message.parts:
        yield with_data(Draft(role=Role.SYSTEM, content=""), {"request": fields, "nothing": True})
    for place, part in enumerate(message.parts):
        yield part_draft(part, request=fields if place == 0 else None)


def _fields(request: ModelRequest) -> Json:
    """What a request says beyond its parts."""
    bare = ModelRequest(
        parts=[],
        timestamp=request.timestamp,
        instructions=request.instructions,
        run_id=request.run_id,
        conversation_id=request.conversation_id,
        metadata=request.metadata,
        state=request.state,
    )
    return difference(dump(bare) | {"parts": None}, _PLAIN_REQUEST)
