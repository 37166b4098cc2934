"""Messages in the form of OpenAI's chat completions, there and back.

What this project's messages have a place for is translated; whatever else a message carries (a
participant's name, an image's detail, provider fields) is kept in its metadata under `KEPT` and put
back by `to_openai`, so that a conversation comes back exactly as it went in.
"""

import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue

from shared.errors import MalformedConversationError
from shared.json_difference import apply, difference
from shared.message import (
    Content,
    ContentPart,
    DataPart,
    Draft,
    MediaPart,
    MessageKind,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolOutcome,
)
from shared.openai_fault import RawMessage, mend
from shared.window import pair_safe

KEPT: Final = "openai_chat"
"""The metadata field that holds what our own fields have no place for. Stored, so never renamed."""

_ROLES: Final = {"developer": Role.SYSTEM} | {role.value: role for role in Role}
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_AUDIO_FORMATS: Final = {"mp3": "mpeg"}
"""Names of audio formats that differ from their MIME subtype."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A conversation that had faults.

    Attributes:
        drafts: Its messages, which `shared.window.pair_safe` leaves as they are.
        repairs: Each fault and what was done about it, in words; empty where there was none.
    """

    drafts: tuple[Draft, ...]
    repairs: tuple[str, ...]


def from_openai(messages: Sequence[object]) -> list[Draft]:
    """Translate a conversation; `to_openai` gives it back equal.

    Raises:
        MalformedConversationError: It has faults; the error lists them all. Reused call ids,
            calls or results without id or without each other, a run that was aborted, a wrong
            role, content of a wrong type, no message at all.
    """
    mended = mend(messages)
    if mended.findings:
        faults = tuple(found.place + found.fault for found in mended.findings)
        raise MalformedConversationError(
            f"The conversation cannot be imported as it is: {'; '.join(faults)}. Correct it, or "
            "let repair_openai() do so.",
            faults,
        )
    return _drafts(mended.messages)


def repair_openai(messages: Sequence[object]) -> Repaired:
    """Translate a conversation that may have faults, and say what was done about each."""
    mended = mend(messages)
    return Repaired(
        drafts=tuple(pair_safe(_drafts(mended.messages))),
        repairs=tuple(f"{found.place}{found.fault}: {found.repair}" for found in mended.findings),
    )


def to_openai(messages: Sequence[Draft]) -> list[RawMessage]:
    """Translate messages. Notes (errors, summaries) and thinking are left out.

    A structured value becomes text, its JSON. Nothing is checked: see `shared.window.pair_safe`.
    """
    return [
        dict(_as_object(apply(message.metadata.get(KEPT), _plain(message))))
        for message in messages
        if not message.kind.is_note
    ]


def _drafts(messages: Sequence[RawMessage]) -> list[Draft]:
    drafts = []
    called: dict[str, str] = {}
    for raw in messages:
        draft = _draft(raw, called)
        if draft.role is not Role.TOOL:
            called = {call.id: call.name for call in draft.tool_calls}
        lost = difference(_plain(draft), raw)
        drafts.append(draft.model_copy(update={"metadata": {KEPT: lost}}) if lost else draft)
    return drafts


def _draft(raw: RawMessage, called: Mapping[str, str]) -> Draft:
    """Translate a message as far as there is a place for it. `called`: names of calls by id."""
    role = _ROLES[raw["role"]]
    if role is Role.TOOL:
        name = raw.get("name")
        return Draft(
            role=role,
            kind=MessageKind.TOOL_RESULT,
            content=_content(raw["content"]),
            tool_name=name if isinstance(name, str) else called.get(raw["tool_call_id"]),
            tool_call_id=raw["tool_call_id"],
            outcome=ToolOutcome.SUCCESS,
        )
    calls = tuple(
        ToolCall(id=call["id"], **{key: call["function"][key] for key in ("name", "arguments")})
        for call in raw.get("tool_calls") or ()
    )
    content = raw.get("content")
    if content is None and not calls:
        refusal = raw.get("refusal")
        content = refusal if isinstance(refusal, str) else ""
    return Draft(
        role=role,
        kind=MessageKind.TOOL_CALL if calls else MessageKind.MESSAGE,
        content=None if content is None else _content(content),
        tool_calls=calls,
    )


def _content(raw: Any) -> Content:
    return tuple(_part(part) for part in raw) if isinstance(raw, list) else str(raw)


def _part(raw: RawMessage) -> ContentPart:
    """Translate a content part. What is not known here is kept as a structured value."""
    match raw:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return TextPart(text=text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _media_at(url)
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(form)}}:
            return MediaPart(media_type=f"audio/{_AUDIO_FORMATS.get(form, form)}", data=data)
        case {"type": "file", "file": {"file_data": str(url), **others}} if _DATA_URL.match(url):
            name = others.get("filename")
            part = _media_at(url)
            return part.model_copy(update={"name": name}) if isinstance(name, str) else part
    return DataPart(value=raw)


def _media_at(url: str) -> MediaPart:
    inline = _DATA_URL.fullmatch(url)
    if inline is not None:
        return MediaPart(media_type=inline[1], data=inline[2])
    guessed = mimetypes.guess_type(url)[0] or ""
    return MediaPart(media_type=guessed if guessed.startswith("image/") else "image/*", url=url)


def _plain(message: Draft) -> RawMessage:
    """A message in OpenAI's form, without what may be kept for it."""
    raw: RawMessage = {"role": message.role.value, "content": _raw_content(message)}
    if message.tool_calls:
        raw["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        raw["tool_call_id"] = message.tool_call_id or ""
        if message.tool_name is not None:
            raw["name"] = message.tool_name
    return raw


def _raw_content(message: Draft) -> JsonValue:
    if message.content is None or isinstance(message.content, str):
        return message.content
    return [_raw_part(part) for part in message.content if not isinstance(part, ThinkingPart)]


def _raw_part(part: TextPart | MediaPart | DataPart) -> JsonValue:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, DataPart):
        return {"type": "text", "text": json.dumps(part.value, ensure_ascii=False)}
    kind, _, subtype = part.media_type.partition("/")
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": part.url or _data_url(part)}}
    if part.data is None:
        # There is no part for a document or a sound that lies elsewhere.
        return {"type": "text", "text": part.url or ""}
    if kind == "audio":
        names = {theirs: ours for ours, theirs in _AUDIO_FORMATS.items()}
        form = names.get(subtype, subtype)
        return {"type": "input_audio", "input_audio": {"data": part.data, "format": form}}
    named: dict[str, JsonValue] = {"filename": part.name} if part.name is not None else {}
    return {"type": "file", "file": named | {"file_data": _data_url(part)}}


def _data_url(part: MediaPart) -> str:
    return f"data:{part.media_type};base64,{part.data or ''}"


def _as_object(value: JsonValue) -> dict[str, JsonValue]:
    """What a kept change makes of a message is one, unless somebody tampered with it."""
    return value if isinstance(value, dict) else {}
