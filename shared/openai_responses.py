"""Messages in the form of OpenAI's Responses API, there and back: a message is one item or several.

An assistant's message of ours holds its text, its reasoning and its calls, so that each call can be
paired with its result; in the other form these are items of their own. What our messages have no
place for is kept in the message's engine data, so that items come back exactly as they went in.
"""

import json
import mimetypes
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from pydantic import JsonValue

from shared.errors import UnstorableError
from shared.json_difference import apply, difference
from shared.message import (
    Content,
    ContentPart,
    DataPart,
    Draft,
    EngineData,
    MediaPart,
    Message,
    MessageKind,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolOutcome,
)

RawItem = dict[str, Any]
"""An item as parsed JSON."""

ENGINE: Final = "openai-responses"
VERSION: Final = 1

_ROLES: Final = {"developer": Role.SYSTEM} | {role.value: role for role in Role}
_OUTPUTS: Final = ("_output", "_response")
"""How the types of items end that answer a call of another type."""
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)


def from_items(items: Sequence[object]) -> list[Message]:
    """Translate items that belong together; `to_items` gives them back equal.

    An answer's reasoning, text and calls become one message. Ids are new.

    Raises:
        UnstorableError: One of them is no object, or holds something that JSON has no form for.
    """
    raw = [_plain_json(item) for item in items]
    names = {
        item["call_id"]: item["name"]
        for item in raw
        if item.get("type") == "function_call" and _has_texts(item, "call_id", "name")
    }
    return [group.message(names) for group in _groups(raw)]


def to_items(messages: Sequence[Draft]) -> list[RawItem]:
    """Translate messages. Errors and summaries are left out, and reasoning that others wrote.

    Ids of calls that were used before are made unique where the items were not made of items: those
    who read the other form know a call by its id.
    """
    unique = _UniqueIds()
    items: list[RawItem] = []
    for message in messages:
        kept = _kept(message)
        items += unique.renamed(_foreign(message)) if kept is None else unique.seen(kept)
    return items


def without_last_item(message: Message) -> Message | None:
    """The message without the last of its items, as a new one; None where it had one only."""
    rest = to_items([message])[:-1]
    if not rest:
        return None
    [left] = from_items(rest)
    return left.model_copy(update={"created_at": message.created_at, "metadata": message.metadata})


# --- from items -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """Items that become one message, and where in the plain form of that message each is."""

    items: list[RawItem] = field(default_factory=list)
    content: list[ContentPart] = field(default_factory=list)
    text: str | None = None
    calls: list[ToolCall] = field(default_factory=list)
    has_message: bool = False

    def takes(self, item: RawItem) -> bool:
        """Whether the item belongs to the same answer."""
        if not self.items:
            return True
        if not _is_answer(item) or not _is_answer(self.items[0]):
            return False
        return not self.has_message or bool(self.calls) or not _is_message(item)

    def add(self, item: RawItem) -> None:
        self.items.append(item)
        if _is_call(item):
            self.calls.append(
                ToolCall(id=item["call_id"], name=item["name"], arguments=item["arguments"])
            )
        elif _is_reasoning(item):
            self.content += [ThinkingPart(text=text) for text in _reasoning(item)]
        elif _is_message(item):
            content = _content(item.get("content"))
            if isinstance(content, str):
                self.text = content if not self.content and not self.has_message else None
                content = (TextPart(text=content),)
            else:
                self.text = None
            self.has_message = True
            self.content += content

    def message(self, names: dict[str, str]) -> Message:
        draft = self._draft(names)
        if _is_special(self.items[0]):
            # Its content is the item, whatever the type: nothing more has to be kept.
            draft = draft.model_copy(update={"engine": _engine_data([{"part": 0}])})
            return Message(**dict(draft), id=uuid4().hex)
        plain = _plain(draft)
        bases = self._bases(plain)
        changes = [difference(base, item) for base, item in zip(bases, self.items, strict=True)]
        kept: list[JsonValue] = []
        if any(changes) or len(plain) != len(self.items):
            kept += [
                {"of": None if base is None else plain.index(base), "change": change}
                for base, change in zip(bases, changes, strict=True)
            ]
        # Noted also where nothing differs, so that nobody takes it for what others wrote.
        draft = draft.model_copy(update={"engine": _engine_data(kept)})
        return Message(**dict(draft), id=uuid4().hex)

    def _bases(self, plain: list[RawItem]) -> list[RawItem | None]:
        """For each item the plain one that it resembles; None where there is none."""
        left = deque(plain)
        bases: list[RawItem | None] = []
        for item in self.items:
            same = next((each for each in left if _kind(each) == _kind(item)), None)
            if same is not None:
                left.remove(same)
            bases.append(same)
        return bases

    def _draft(self, names: dict[str, str]) -> Draft:
        first = self.items[0]
        if _is_result(first):
            return Draft(
                role=Role.TOOL,
                kind=MessageKind.TOOL_RESULT,
                content=_content(first.get("output")),
                tool_call_id=first["call_id"],
                tool_name=names.get(first["call_id"]),
                outcome=ToolOutcome.SUCCESS,
            )
        if _is_message(first) and not _is_answer(first):
            return Draft(role=_ROLES[first["role"]], content=_content(first.get("content")))
        if _is_answer(first):
            content: Content | None = self.text
            if content is None and (self.content or not self.calls):
                content = tuple(self.content)
            kind = MessageKind.TOOL_CALL if self.calls else MessageKind.MESSAGE
            return Draft(
                role=Role.ASSISTANT, kind=kind, content=content, tool_calls=tuple(self.calls)
            )
        # A call of a tool that the provider runs, an approval, or what is yet to be invented.
        role = Role.USER if str(first.get("type")).endswith(_OUTPUTS) else Role.ASSISTANT
        return Draft(role=role, content=(DataPart(value=first),))


def _engine_data(kept: list[JsonValue]) -> EngineData:
    return EngineData(name=ENGINE, version=VERSION, data={"items": kept})


def _groups(items: Sequence[RawItem]) -> Iterator[_Group]:
    group = _Group()
    for item in items:
        if not group.takes(item):
            yield group
            group = _Group()
        group.add(item)
    if group.items:
        yield group


def _kind(item: RawItem) -> str:
    if _is_message(item):
        return "message"
    return f"call {item['call_id']}" if _is_call(item) else str(item.get("type"))


def _is_message(item: RawItem) -> bool:
    role = item.get("role")
    is_known = isinstance(role, str) and role in _ROLES and role != "tool"
    return is_known and item.get("type", "message") == "message"


def _is_call(item: RawItem) -> bool:
    return item.get("type") == "function_call" and _has_texts(item, "call_id", "name", "arguments")


def _is_result(item: RawItem) -> bool:
    return item.get("type") == "function_call_output" and _has_texts(item, "call_id")


def _is_reasoning(item: RawItem) -> bool:
    return item.get("type") == "reasoning"


def _is_special(item: RawItem) -> bool:
    """Whether our messages know its like only as a structured value."""
    return not (_is_message(item) or _is_answer(item) or _is_result(item))


def _is_answer(item: RawItem) -> bool:
    """Whether an item is a part of what a model answered."""
    is_said = _is_message(item) and item["role"] == "assistant"
    return is_said or _is_call(item) or _is_reasoning(item)


def _has_texts(item: RawItem, *names: str) -> bool:
    return all(isinstance(item.get(name), str) for name in names)


def _reasoning(item: RawItem) -> list[str]:
    parts = item.get("summary")
    return [part["text"] for part in _objects(parts) if isinstance(part.get("text"), str)]


def _objects(value: object) -> list[RawItem]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _content(raw: object) -> Content:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, list):
        return tuple(_part(each) for each in raw)
    return "" if raw is None else (DataPart(value=raw),)  # type: ignore[arg-type] # parsed JSON


def _part(raw: Any) -> ContentPart:
    match raw:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return TextPart(text=text)
        case {"type": "refusal", "refusal": str(text)}:
            return TextPart(text=text)
        case {"type": "input_image", "image_url": str(url)}:
            return _media(url, "image/*")
        case {"type": "input_file", "file_data": str(url), **others} if _DATA_URL.match(url):
            name = others.get("filename")
            part = _media(url, "application/octet-stream")
            return part.model_copy(update={"name": name}) if isinstance(name, str) else part
    return DataPart(value=raw)


def _media(url: str, otherwise: str) -> MediaPart:
    inline = _DATA_URL.fullmatch(url)
    if inline is not None:
        return MediaPart(media_type=inline[1], data=inline[2])
    return MediaPart(media_type=mimetypes.guess_type(url)[0] or otherwise, url=url)


def _plain_json(item: object) -> RawItem:
    dump = getattr(item, "model_dump", None)
    if dump is not None:
        item = dump(mode="json", exclude_unset=True)
    try:
        plain = json.loads(json.dumps(item))
    except (TypeError, ValueError, RecursionError) as error:
        raise UnstorableError("An item holds something that JSON has no form for.") from error
    if not isinstance(plain, dict):
        raise UnstorableError("An item must be an object, such as {'role': 'user', 'content': ''}.")
    return plain


# --- to items -------------------------------------------------------------------------------------


class _UniqueIds:
    """Gives each call an id that no call before it had; its results follow."""

    def __init__(self) -> None:
        self._used: dict[str, int] = defaultdict(int)
        self._open: dict[str, deque[str]] = defaultdict(deque)

    def seen(self, items: list[RawItem]) -> list[RawItem]:
        """Items that keep their ids."""
        for item in items:
            if _is_call(item):
                self._used[item["call_id"]] += 1
        return items

    def renamed(self, items: list[RawItem]) -> list[RawItem]:
        """Items whose calls and results get an id of their own."""
        if any(_is_call(item) for item in items):
            self._open.clear()
        return [self._renamed(item) for item in items]

    def _renamed(self, item: RawItem) -> RawItem:
        given = item.get("call_id")
        if given is None:
            return item
        if _is_call(item):
            self._used[given] += 1
            own = given if self._used[given] == 1 else f"{given}-{self._used[given]}"
            self._open[given].append(own)
        else:
            waiting = self._open[given]
            own = waiting.popleft() if waiting else given
        return item | {"call_id": own}


def _kept(message: Draft) -> list[RawItem] | None:
    """The items that a message was made of; None where it was not."""
    noted = message.engine
    if noted is None or noted.name != ENGINE or not isinstance(noted.data, dict):
        return None
    plain = _plain(message)
    if not noted.data.get("items"):
        return plain
    items = []
    for kept in _objects(noted.data.get("items")):
        if "part" in kept:
            items += _item_in(message)
            continue
        place = kept.get("of")
        base = plain[place] if isinstance(place, int) and place < len(plain) else None
        item = apply(kept.get("change"), base)
        if isinstance(item, dict):
            items.append(item)
    return items


def _foreign(message: Draft) -> list[RawItem]:
    """Items for a message of another writer, in the simplest form that everybody takes."""
    if message.kind in {MessageKind.ERROR, MessageKind.SUMMARY}:
        return []
    if message.role is Role.ASSISTANT and isinstance(message.content, tuple):
        text = "".join(_as_text(part) for part in message.content)
        message = message.model_copy(update={"content": text or None})
    elif message.role is Role.TOOL and not _has_media(message):
        text = "".join(map(_as_text, message.content or ()))
        message = message.model_copy(update={"content": text})
    return _plain(message)


def _item_in(message: Draft) -> list[RawItem]:
    """The item that is a message's only content."""
    match message.content:
        case (DataPart(value=dict() as item),):
            return [item]
    return []


def _has_media(message: Draft) -> bool:
    return any(isinstance(part, MediaPart) for part in message.content or ())


def _as_text(part: ContentPart | str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, TextPart):
        return part.text
    return json.dumps(part.value, ensure_ascii=False) if isinstance(part, DataPart) else ""


def _plain(message: Draft) -> list[RawItem]:
    """A message as items, without what may be kept for it."""
    if message.role is Role.TOOL:
        output = _raw_content(message, "input_text")
        call_id = message.tool_call_id or ""
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    kind = "output_text" if message.role is Role.ASSISTANT else "input_text"
    items: list[RawItem] = []
    content = _raw_content(message, kind)
    if content or (message.content is not None and not message.tool_calls and content != []):
        items.append({"role": message.role.value, "content": content})
    calls = [
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in message.tool_calls
    ]
    return [*items, *calls]


def _raw_content(message: Draft, kind: str) -> JsonValue:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return [_raw_part(part, kind) for part in message.content if not isinstance(part, ThinkingPart)]


def _raw_part(part: TextPart | MediaPart | DataPart, kind: str) -> JsonValue:
    if isinstance(part, TextPart):
        return {"type": kind, "text": part.text}
    if isinstance(part, DataPart):
        return {"type": kind, "text": json.dumps(part.value, ensure_ascii=False)}
    url = part.url or f"data:{part.media_type};base64,{part.data or ''}"
    if part.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": url, "detail": "auto"}
    if part.data is None:
        return {"type": kind, "text": url}
    return {"type": "input_file", "file_data": url, "filename": part.name or "file"}
