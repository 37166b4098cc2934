"""The lines of a conversation's file: JSON, each with a fixed beginning, so that few are parsed.

    {"conversation":"support:ada","version":1,"made":"9f0c…"}                  the first line
    {"run":"run-3-…","number":…,"position":0,"role":"user","kind":"message","message":{…}}
    {"commit":{"number":…,"count":…,…,"bytes":…,"sum":"90a3c7f1"},"checksum":"1c291ca3"}

Messages count once a commit follows them. It holds all that is known of the conversation besides
its messages (see `State`), so that its end is all that has to be read to go on. `bytes` and `sum`
are the length and the checksum of the messages that were written with it.
"""

import json
import re
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from shared.conversation.local.storage import Entry, State

FILE_VERSION: Final = 1

_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
_RUN: Final = re.compile(rb'\{"run":(' + _STRING + rb"|null),")
_MESSAGE: Final = re.compile(
    _RUN.pattern
    + rb'"number":([0-9]{1,19}),"position":([0-9]{1,19}),"role":"([a-z_]+)","kind":"([a-z_]+)",'
    + rb'"message":'
)
_COMMIT: Final = re.compile(rb'\{"commit":(\{.*\}),"checksum":"([0-9a-f]{8})"\}')
_COMMIT_START: Final = b'{"commit":{'
_NUMBER: Final = re.compile(
    rb'\{(?:"run":(?:' + _STRING + rb'|null)|"commit":\{"number":(?P<c>[0-9]{1,19}))'
    rb'(?:,"number":(?P<m>[0-9]{1,19}))?'
)


def header_line(conversation_id: str) -> bytes:
    """The first line of a file. No two are equal, so that one file is told from its successor."""
    return _line(
        {"conversation": conversation_id, "version": FILE_VERSION, "made": secrets.token_hex(8)}
    )


def parse_header(line: bytes) -> dict[str, Any]:
    """What a first line says; nothing, where it is damaged."""
    try:
        header = json.loads(line)
    except ValueError:
        return {}
    return header if isinstance(header, dict) and "conversation" in header else {}


def message_lines(entries: Iterable[Entry]) -> bytes:
    """The lines of entries, in their order."""
    return b"".join(
        b'{"run":%b,"number":%d,"position":%d,"role":"%b","kind":"%b","message":%b}\n'
        % (
            run_key(entry.run_id),
            entry.number,
            entry.position,
            entry.role.encode(),
            entry.kind.encode(),
            entry.data,
        )
        for entry in entries
    )


def run_key(run_id: str | None) -> bytes:
    """A run's id as lines hold it."""
    return json.dumps(run_id).encode()


def run_of(line: bytes) -> bytes | None:
    """The run of a message's line, as `run_key` writes it; None for any other line."""
    match = _RUN.match(line)
    return match[1] if match is not None else None


def number_of(line: bytes) -> int | None:
    """The number of a message's line, or the greatest so far for a commit's; None if damaged."""
    match = _NUMBER.match(line)
    found = (match["m"] or match["c"]) if match is not None else None
    return int(found) if found is not None else None


def parse_entry(line: bytes) -> Entry | None:
    """The entry of a message's line; None for any other line, and for one that is damaged."""
    match = _MESSAGE.match(line)
    if match is None or not line.endswith(b"}"):
        return None
    run, number, position, role, kind = match.groups()
    return Entry(
        number=int(number),
        run_id=json.loads(run),
        position=int(position),
        role=role.decode(),
        kind=kind.decode(),
        data=line[match.end() : -1],
    )


def is_commit(line: bytes) -> bool:
    """Whether a line is, or was, a commit."""
    return line.startswith(_COMMIT_START)


@dataclass(frozen=True, slots=True)
class Commit:
    """What a commit says: the state, and of how many bytes before it which checksum."""

    state: State
    length: int
    checksum: str


def commit_line(state: State, lines: bytes) -> bytes:
    """The commit of `lines`, which stand before it."""
    fields = _line({**asdict(state), "bytes": len(lines), "sum": checksum(lines)})[:-1]
    return b'{"commit":%b,"checksum":"%b"}\n' % (fields, checksum(fields).encode())


def parse_commit(line: bytes) -> Commit | None:
    """Read a commit; None for any other line, and for one that is damaged."""
    match = _COMMIT.fullmatch(line)
    if match is None or checksum(match[1]) != match[2].decode():
        return None
    try:
        fields = json.loads(match[1])
        length, lines = int(fields.pop("bytes")), str(fields.pop("sum"))
        return Commit(State(**fields), length, lines)
    except (ValueError, TypeError, KeyError):
        return None


def is_readable(lines: bytes) -> bool:
    """Whether all of these lines are JSON."""
    try:
        for line in lines.splitlines():
            json.loads(line)
    except ValueError:
        return False
    return True


def checksum(content: bytes) -> str:
    """CRC-32, 8 hex digits: tells accidents, not intentions."""
    return f"{zlib.crc32(content):08x}"


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
