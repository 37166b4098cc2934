"""Messages as items of OpenAI's Responses API: what goes there, what stays here, and back again.

What goes there is what models read: texts, arguments of calls, results. Each such text is known by
its *slot*: which item, which part of it. What stays is everything else, and each text that the
provider did not give back as it got it, so that a message comes back exactly as it was.
"""

import base64
import binascii
import copy
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from shared.codec import decode_message, encode
from shared.conversation.openai_api import MAX_TEXT, Item
from shared.errors import CorruptEntryError
from shared.message import MediaPart, Message, MessageKind, Role, Sealed
from shared.version import MESSAGE_VERSION, SEALED_VERSION

LAYER: Final = "openai-conversations"
"""Names in `Sealed.layers` where the content is. Stored, so never renamed."""

_Part = tuple[Item, tuple[str | int, ...], bool]
"""A part of an item: its text's place in the message's JSON, and whether the text is JSON."""
_ENVELOPE: Final = ("id", "run_id", "position", "role", "kind", "created_at")
"""What stays readable in the index: what stores, filters and watchers go by."""
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MAX_CALL_ID: Final = 64
_STAYS: Final = frozenset({MessageKind.ERROR, MessageKind.SUMMARY})
"""Kinds that no model at the provider should read: notes for people, and what repeats the rest."""


class Slot(BaseModel):
    """Where a text of a message is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: tuple[str | int, ...]
    """Its place in the message's JSON."""
    item: int
    """Which of the message's items holds it."""
    part: int | None = None
    """Which part of that item's content; None where the item is the text."""
    is_json: bool = False
    """Whether the text is the JSON of a structured value."""


class Reference(BaseModel):
    """What the index keeps of a message whose content is at the provider."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    conversation: str
    """The provider's conversation."""
    items: tuple[str, ...]
    """Ids of its items, in the message's order."""
    slots: tuple[Slot, ...]
    body: dict[str, JsonValue]
    """The message's JSON, without its envelope and without what the slots hold."""


@dataclass(slots=True)
class Parting:
    """A message, parted: the items to make of it, and the texts in them."""

    message: Message
    body: dict[str, Any]
    items: list[Item] = field(default_factory=list)
    slots: list[tuple[Slot, str]] = field(default_factory=list)


def part(message: Message) -> Parting:
    """Make items of a message; none where it has nothing that belongs at the provider.

    Raises:
        UnstorableError: The message could not be read again.
    """
    stored = json.loads(encode(message))
    body = {name: value for name, value in stored.items() if name not in _ENVELOPE}
    parting = Parting(message, body)
    if message.sealed is None and message.kind not in _STAYS:
        # As it would be read again: half a surrogate pair has no place in a request.
        _make_items(parting, Message.model_validate(stored | {"version": MESSAGE_VERSION}))
    return parting if _fits(parting) else whole(parting)


def whole(parting: Parting) -> Parting:
    """The same message, to be kept in the index as it is."""
    return Parting(parting.message, parting.body)


def _fits(parting: Parting) -> bool:
    return all(len(text) <= MAX_TEXT for _, text in parting.slots)


def referring(parting: Parting, place: str, items: Sequence[Item]) -> Message:
    """The message as the index keeps it, once `items` are stored in the conversation `place`."""
    body: dict[str, Any] = copy.deepcopy(parting.body)
    slots = []
    for slot, text in parting.slots:
        if _is_kept(slot, text, items):
            slots.append(slot)
            _set(body, slot.at, None)
    ids = tuple(item["id"] for item in items)
    reference = Reference(conversation=place, items=ids, slots=tuple(slots), body=body)
    message = parting.message
    # Not validated: a message of a newer version is handed on as it is.
    return Message.model_construct(
        **{name: getattr(message, name) for name in _ENVELOPE},
        version=max(message.version, SEALED_VERSION),
        sealed=Sealed(
            layers=(LAYER,),
            data=base64.b64encode(reference.model_dump_json().encode()).decode(),
        ),
    )


def reference_of(message: Message) -> Reference | None:
    """Where the content of a message from the index is; None where the message is whole.

    Raises:
        CorruptEntryError: It cannot be told.
    """
    if message.sealed is None or message.sealed.layers != (LAYER,):
        return None
    try:
        return Reference.model_validate_json(base64.b64decode(message.sealed.data, validate=True))
    except (ValidationError, binascii.Error, ValueError) as error:
        raise CorruptEntryError(
            f"The entry at {message.cursor} does not say where its content is at OpenAI."
        ) from error


def find_reference(entry: Message) -> Reference | CorruptEntryError | None:
    """As `reference_of`, with the error as an answer."""
    try:
        return reference_of(entry)
    except CorruptEntryError as error:
        return error


def named_by(entries: Iterable[Message]) -> set[tuple[str, str]]:
    """All that entries name at the provider: pairs of conversation and item."""
    references = [find_reference(entry) for entry in entries]
    return {
        (reference.conversation, item_id)
        for reference in references
        if isinstance(reference, Reference)
        for item_id in reference.items
    }


def restored(message: Message, reference: Reference, items: Mapping[str, Item]) -> Message:
    """The message as it was given.

    Raises:
        CorruptEntryError: One of its items is not among `items`, or not what it was.
    """
    envelope = message.model_dump(mode="json", include=set(_ENVELOPE))
    body: dict[str, Any] = copy.deepcopy(reference.body)
    try:
        own = [items[item_id] for item_id in reference.items]
        for slot in reference.slots:
            text = _text(own[slot.item], slot.part)
            _set(body, slot.at, json.loads(text) if slot.is_json else text)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CorruptEntryError(
            f"The content of the entry at {message.cursor} is not at OpenAI any more."
        ) from error
    return decode_message(json.dumps(envelope | body), cursor=message.cursor or "")


# --- what goes to the provider --------------------------------------------------------------------


def _make_items(parting: Parting, message: Message) -> None:
    parts = list(_parts(message))
    if message.role is Role.TOOL:
        _make_result(parting, message, parts)
        return
    sent = [part for part, _, _ in parts]
    if sent:
        parting.items.append({"type": "message", "role": message.role.value, "content": sent})
        _note_parts(parting, parts)
    for place, call in enumerate(message.tool_calls):
        parting.items.append(
            {
                "type": "function_call",
                "call_id": _call_id(call.id),
                "name": _name(call.name),
                "arguments": call.arguments,
            }
        )
        slot = Slot(at=("tool_calls", place, "arguments"), item=len(parting.items) - 1)
        parting.slots.append((slot, call.arguments))


def _make_result(parting: Parting, message: Message, parts: Sequence[_Part]) -> None:
    is_text = isinstance(message.content, str)
    output: Any = message.content if is_text else [part for part, _, _ in parts]
    parting.items.append(
        {
            "type": "function_call_output",
            "call_id": _call_id(message.tool_call_id or ""),
            "output": output or "",
        }
    )
    if isinstance(message.content, str):
        parting.slots.append((Slot(at=("content",), item=0), message.content))
    else:
        _note_parts(parting, parts)


def _note_parts(parting: Parting, parts: Sequence[_Part]) -> None:
    item = len(parting.items) - 1
    for place, (sent, at, is_json) in enumerate(parts):
        if "text" in sent:
            slot = Slot(at=at, item=item, part=place, is_json=is_json)
            parting.slots.append((slot, sent["text"]))


def _parts(message: Message) -> Iterator[_Part]:
    kind = "output_text" if message.role is Role.ASSISTANT else "input_text"
    if isinstance(message.content, str):
        if message.content:
            yield {"type": kind, "text": message.content}, ("content",), False
        return
    for place, each in enumerate(message.content or ()):
        if each.type == "text" and each.text:
            yield {"type": kind, "text": each.text}, ("content", place, "text"), False
        elif each.type == "data":
            text = json.dumps(each.value, ensure_ascii=False)
            yield {"type": kind, "text": text}, ("content", place, "value"), True
        elif each.type == "media" and message.role in {Role.USER, Role.TOOL}:
            sent = _media(each)
            if sent is not None:
                yield sent, (), False


def _media(media: MediaPart) -> Item | None:
    """An image or a document for models to see; the message's own form of it stays in the index."""
    url = media.url or f"data:{media.media_type};base64,{media.data or ''}"
    if media.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": url, "detail": "auto"}
    if media.media_type != "application/pdf":
        return None
    if media.data is None:
        return {"type": "input_file", "file_url": url}
    return {"type": "input_file", "file_data": url, "filename": media.name or "document.pdf"}


def _call_id(call_id: str) -> str:
    """A call's id in a length that the provider takes; a call and its result get the same."""
    if 0 < len(call_id) <= _MAX_CALL_ID:
        return call_id
    return f"call_{hashlib.sha256(call_id.encode(errors='replace')).hexdigest()[:32]}"


def _name(name: str) -> str:
    """A tool's name in the letters that the provider takes."""
    if _NAME.fullmatch(name):
        return name
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "_"


# --- what comes back ------------------------------------------------------------------------------


def _is_kept(slot: Slot, text: str, items: Sequence[Item]) -> bool:
    """Whether the provider stored the text as it got it."""
    try:
        stored = _text(items[slot.item], slot.part)
        if not slot.is_json:
            return stored == text
        # By their JSON, since to Python 1 equals 1.0 and true.
        return json.dumps(json.loads(stored), sort_keys=True) == json.dumps(
            json.loads(text), sort_keys=True
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return False


def _text(item: Item, place: int | None) -> str:
    """The text in a slot. Raises as a look into a dictionary or list does."""
    held: Any = item["arguments"] if item["type"] == "function_call" else item.get("output")
    if place is not None:
        parts = item["content"] if item["type"] == "message" else item["output"]
        held = parts[place]["text"]
    if not isinstance(held, str):
        raise TypeError("not a text")
    return held


def _set(body: dict[str, Any], at: tuple[str | int, ...], value: JsonValue) -> None:
    holder: Any = body
    for step in at[:-1]:
        holder = holder[step]
    holder[at[-1]] = value
