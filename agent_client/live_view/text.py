"""Text for terminals: what models and tools say, made harmless and short.

Nothing of it is trusted. An escape sequence could move the cursor, set the window's title or hide
what a person should see, and so could a bidirectional override; `clean` takes them out.
"""

import json
import re
from typing import Final

from pydantic import JsonValue

from shared.message import Content, DataPart, MediaPart, Message, TextPart

_ESCAPE_SEQUENCES: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movements
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # OSC and its like: titles, links
    r"|\x1b[ -/]+[0-~]"  # character sets
    r"|\x1b[0-OQ-WYZ\\`-~]"  # two characters: reset, save the cursor
)
_LINE_BREAKS: Final = re.compile("\r\n?|[\x85\u2028\u2029]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_INVISIBLE: Final = (
    "\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
)
"""Reorder what is shown, or hide in it. Joiners are not among them: emoji are made with those."""

_REPLACEMENTS: Final[dict[int, str]] = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"}
    | {0x7F: "\u2421"}
    | dict.fromkeys(range(0x80, 0xA0), "\ufffd")
    | dict.fromkeys(map(ord, _INVISIBLE), "")
)
_VALUE_LENGTH: Final = 60
"""Characters of one argument, so that a long one leaves room for the next."""
_PARSED_LENGTH: Final = 50_000
"""Longer arguments are shown as they begin, since parsing them to show a line would be waste."""


def clean(text: str) -> str:
    """The text without anything that a terminal would obey; only line breaks are left of that.

    Whole escape sequences are dropped. A control character that stands alone is shown as its
    picture, such as ``␛``.
    """
    plain = _LINE_BREAKS.sub("\n", _ESCAPE_SEQUENCES.sub("", text))
    return _SURROGATES.sub("\ufffd", plain.translate(_REPLACEMENTS)).expandtabs()


def one_line(text: str, limit: int) -> str:
    """The beginning of a text: clean, on one line, at most `limit` characters."""
    # White space and escape sequences go; four times the limit leaves enough behind them.
    start = text[: limit * 4 + 200]
    line = " ".join(clean(start).split())
    if len(line) <= limit and len(start) == len(text):
        return line
    return f"{line[: limit - 1].rstrip()}…"


def content_text(content: Content | None) -> str:
    """What a message says, for reading: its text, its data as JSON, a mark for each medium."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(filter(None, map(_part_text, content)))


def summary_text(message: Message) -> str:
    """What a summary says, for reading, and for how much it stands."""
    covers = message.covers
    of = f" of {count_text(covers.count, 'message')}" if covers is not None else ""
    return f"summary{of} before this run, for the model: {content_text(message.content)}"


def value_text(value: JsonValue) -> str:
    """A run's output, for reading: text as it is, anything else as JSON over several lines."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def call_text(name: str, arguments: str, limit: int) -> str:
    """A tool call, such as ``search(query="rings", limit=3)``, at most `limit` characters.

    `arguments` is JSON as a model wrote it; what is no JSON object is shown as it is.
    """
    return one_line(f"{one_line(name, _VALUE_LENGTH)}({_arguments_text(arguments)})", limit)


def duration_text(seconds: float) -> str:
    """How long something took: ``0.8s``, ``2m05s``, ``1h02m``."""
    tenths = round(max(seconds, 0.0) * 10)  # below zero where clocks of two machines disagree
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest // 10:02d}s" if minutes else f"{rest / 10:.1f}s"


def count_text(count: int, noun: str) -> str:
    """A number of things: ``1 round``, ``1,204 tokens``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _part_text(part: object) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, DataPart):
        return json.dumps(part.value, ensure_ascii=False)
    if isinstance(part, MediaPart):
        return f"[{part.name or part.url or part.media_type}]"
    return ""


def _arguments_text(arguments: str) -> str:
    try:
        values = json.loads(arguments) if len(arguments) <= _PARSED_LENGTH else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        return arguments
    return ", ".join(
        f"{name}={one_line(json.dumps(value, ensure_ascii=False), _VALUE_LENGTH)}"
        for name, value in values.items()
    )
