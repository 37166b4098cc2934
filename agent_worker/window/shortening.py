"""Shortening: results that are stored whole and shown to models without their middle."""

import json

from agent_worker.cutting import NOT_SHOWN, cut
from shared.message import ContentPart, DataPart, MediaPart, Message, Role, TextPart


def shortened(message: Message, limit: int | None) -> Message:
    """The message as a model is shown it: each text of a result takes `limit` bytes at most.

    A structured value that is longer becomes text, the beginning and the end of its JSON. A result
    that holds media stays as it is, since half a picture is none. None is no limit.
    """
    if limit is None or message.role is not Role.TOOL or not message.content:
        return message
    content = message.content
    if isinstance(content, str):
        text = cut(content, limit, NOT_SHOWN)
        return message if text is content else message.model_copy(update={"content": text})
    if any(isinstance(part, MediaPart) for part in content):
        return message
    parts = tuple(_shortened_part(part, limit) for part in content)
    if all(new is old for new, old in zip(parts, content, strict=True)):
        return message
    return message.model_copy(update={"content": parts})


def _shortened_part(part: ContentPart, limit: int) -> ContentPart:
    if isinstance(part, TextPart):
        text = cut(part.text, limit, NOT_SHOWN)
        return part if text is part.text else TextPart(text=text)
    if isinstance(part, DataPart):
        written = written_json(part.value)
        text = cut(written, limit, NOT_SHOWN)
        return part if text is written else TextPart(text=text)
    return part


def written_json(value: object) -> str:
    """A structured value as models are shown it: JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
