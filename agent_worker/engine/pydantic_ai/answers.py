"""Answers: a model's response as one message, and back. Lossless."""

import json
from collections.abc import Sequence
from typing import Any, Final

import pydantic_core
from pydantic_ai.messages import ModelResponse

from agent_worker.engine.pydantic_ai.calls import unique_ids
from agent_worker.engine.pydantic_ai.content import (
    Json,
    difference,
    native_item,
    stored_file,
    text_of,
)
from agent_worker.engine.pydantic_ai.engine_data import dump, engine_data, with_data
from shared.message import (
    Content,
    ContentPart,
    Draft,
    MessageKind,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    Usage,
)

_COUNTERS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_PLAIN_RESPONSE: Final[Json] = {"kind": "response", "state": "complete"}


def response_draft(
    response: ModelResponse,
    *,
    call_ids: Sequence[str] | None = None,
    usage: Usage | None = None,
    without: frozenset[str] = frozenset(),
    request: Json | None = None,
) -> Draft:
    """A model's answer as a message.

    `call_ids` are the ids that the model wrote, where the response has others. `usage` is what to
    account the message for, if it is more than the response says. Fields named in `without` are not
    kept. `request` is what no other message tells about the request that was answered.
    """
    dumped = dump(response)
    parts: list[Json] = dumped.pop("parts")
    given = {name: value for name, value in dumped.pop("usage").items() if value}
    content, calls, entries = _store_parts(parts)
    ids = [call.id for call in calls]
    if call_ids is not None and ids != call_ids:
        calls = [
            call.model_copy(update={"id": own}) for call, own in zip(calls, call_ids, strict=True)
        ]
    draft = Draft(
        role=Role.ASSISTANT,
        kind=MessageKind.TOOL_CALL if calls else MessageKind.MESSAGE,
        content=content,
        tool_calls=tuple(calls),
        usage=usage or Usage(**{name: given.get(name, 0) for name in _COUNTERS}, requests=1),
    )
    fields = {name: value for name, value in dumped.items() if name not in without}
    return with_data(
        draft,
        {
            "response": difference(fields, _PLAIN_RESPONSE),
            "parts": None if entries == _plain_entries(draft) else entries,
            "ids": None if ids == unique_ids(call.id for call in calls) else ids,
            "usage": _beyond(given, _native_usage(draft)),
            "request": request,
        },
    )


def native_response(draft: Draft) -> Json:
    """The JSON form of the response that a message holds."""
    data = engine_data(draft)
    usage = _native_usage(draft) | data.get("usage", {})
    parts = _native_parts(draft, data)
    return {**_PLAIN_RESPONSE, **data.get("response", {}), "parts": parts, "usage": usage}


def native_call_ids(draft: Draft) -> list[str]:
    """The ids under which Pydantic AI knows the calls of an answer."""
    ids = engine_data(draft).get("ids")
    return list(ids) if ids else unique_ids(call.id for call in draft.tool_calls)


def _store_parts(parts: Sequence[Json]) -> tuple[Content | None, list[ToolCall], list[Json]]:
    content: list[ContentPart] = []
    calls: list[ToolCall] = []
    entries: list[Json] = []
    for part in parts:
        if part["part_kind"] == "tool-call":
            call, beyond = _store_call(part)
            entries.append({"call": len(calls), **beyond})
            calls.append(call)
        elif (said := _store_said(part)) is not None:
            entries.append({"of": len(content), **said[1]})
            content.append(said[0])
        else:
            entries.append({"raw": part})
    if len(content) == 1 and isinstance(content[0], TextPart):
        return content[0].text, calls, entries
    return tuple(content) or (None if calls else ""), calls, entries


def _store_said(part: Json) -> tuple[ContentPart, Json] | None:
    kind = part["part_kind"]
    if kind == "file":
        file = stored_file(part["content"])
        if file is None:
            return None
        beyond = difference(part | {"content": None}, {"part_kind": "file"})
        return file, beyond | {"file": difference(part["content"], native_item(file))}
    if kind not in {"text", "thinking"}:
        return None
    said = TextPart(text=part["content"]) if kind == "text" else ThinkingPart(text=part["content"])
    return said, difference(part, {"part_kind": kind, "content": part["content"]})


def _store_call(part: Json) -> tuple[ToolCall, Json]:
    arguments, written = part["args"], {}
    if arguments is None:
        arguments, written = "", {"arguments": "none"}
    elif not isinstance(arguments, str):
        arguments, written = pydantic_core.to_json(arguments).decode(), {"arguments": "object"}
    call = ToolCall(id=part["tool_call_id"], name=part["tool_name"], arguments=arguments)
    plain = {name: part[name] for name in ("part_kind", "tool_name", "tool_call_id", "args")}
    return call, difference(part, plain) | written


def _plain_entries(draft: Draft) -> list[Json]:
    said = len(draft.content) if isinstance(draft.content, tuple) else draft.content is not None
    return [
        *({"of": index} for index in range(said)),
        *({"call": index} for index in range(len(draft.tool_calls))),
    ]


def _native_parts(draft: Draft, data: Json) -> list[Json]:
    content = draft.content
    parts = (TextPart(text=content),) if isinstance(content, str) else content or ()
    ids = native_call_ids(draft)
    entries = data.get("parts")
    if entries is None:
        entries = _plain_entries(draft)
        if draft.engine is None and content == "" and draft.tool_calls:
            entries = entries[1:]  # OpenAI's form says "" where nothing is said; others refuse that
    return [_native_answer_part(entry, parts, draft.tool_calls, ids) for entry in entries]


def _native_answer_part(
    entry: Json, said: Sequence[ContentPart], calls: Sequence[ToolCall], ids: Sequence[str]
) -> Json:
    if "raw" in entry:
        raw: Json = entry["raw"]
        return raw
    beyond = {
        name: value
        for name, value in entry.items()
        if name not in {"of", "call", "arguments", "file"}
    }
    if "call" in entry:
        index = entry["call"]
        return _native_call(calls[index], ids[index], entry.get("arguments")) | beyond
    part = said[entry["of"]]
    if isinstance(part, TextPart | ThinkingPart):
        return {"part_kind": part.type, "content": part.text} | beyond
    item = native_item(part)
    if isinstance(item, dict) and item.get("kind") == "binary":
        return {"part_kind": "file", **beyond, "content": item | entry.get("file", {})}
    return {"part_kind": "text", "content": text_of((part,))}  # no model may answer with it


def _native_call(call: ToolCall, call_id: str, written: str | None) -> Json:
    arguments: Any = call.arguments
    if written is not None:
        arguments = None if written == "none" else json.loads(call.arguments)
    return {
        "part_kind": "tool-call",
        "tool_name": call.name,
        "args": arguments,
        "tool_call_id": call_id,
    }


def _native_usage(draft: Draft) -> Json:
    usage = draft.usage or Usage()
    return {name: value for name in _COUNTERS if (value := getattr(usage, name))}


def _beyond(given: Json, derived: Json) -> Json:
    """As `difference`, for counters: one that is absent is zero."""
    beyond = {key: value for key, value in given.items() if value != derived.get(key)}
    return beyond | dict.fromkeys(derived.keys() - given.keys(), 0)
