"""Reading a conversation's file without reading all of it: from its end, or by halves."""

import os
import threading
from collections.abc import Iterator
from typing import Final

from shared.conversation.local.file_format import (
    checksum,
    is_commit,
    is_readable,
    number_of,
    parse_commit,
    parse_entry,
    parse_header,
    run_key,
    run_of,
)
from shared.conversation.local.storage import Entry, Selection, State

_SMALL: Final = 8 * 1024
"""Bytes of a first read: the last commit, or a few messages. Each further one is twice as large."""
_LARGE: Final = 256 * 1024
_NEWLINE: Final = b"\n"

Line = tuple[int, bytes]
"""Where a line begins, and the line without its end."""


class Shrunk(Exception):  # noqa: N818 - no error: somebody has cut off what was not acknowledged
    """A file became shorter while it was read; read it once more."""


class FileIndex:
    """What was learnt about a file: where each run's first message is. Reads each line once.

    It is that of one file, known by its first line: another one takes its place when messages are
    removed. For any number of threads.
    """

    def __init__(self, header: bytes) -> None:
        self.header = header
        self.whole_up_to = 0
        """The end of the last batch that was compared with its checksum."""
        self._end = len(header)
        self._firsts: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def find(self, fd: int, end: int, run_id: str) -> int | None:
        """Where the run's first message is, among what is in front of `end`."""
        with self._lock:
            if end > self._end:
                for offset, line in lines_forward(fd, self._end, end):
                    run = run_of(line)
                    if run is not None:
                        self._firsts.setdefault(run, offset)
                self._end = end
            return self._firsts.get(run_key(run_id))


class FileReader:
    """A conversation's file, up to the last commit that there was when this was made.

    Others may append meanwhile, and put another file in its place; this one stays as it is.

    Raises:
        Shrunk: While it was made.
    """

    def __init__(self, fd: int, header: bytes, index: FileIndex) -> None:
        self._fd = fd
        self._start = len(header)
        self._index = index
        self.size = os.fstat(fd).st_size
        self.end, self.state = find_commit(fd, self._start, self.size, index)

    @property
    def conversation_id(self) -> str | None:
        """Whose file it is, as its first line says; None where that is damaged."""
        named = parse_header(self._index.header).get("conversation")
        return named if isinstance(named, str) else None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def entries(self, selection: Selection, *, newest_first: bool = False) -> Iterator[Entry]:
        """See `ConversationReader.entries`."""
        return (entry for _, entry in self.find(selection, newest_first=newest_first))

    def find(
        self, selection: Selection, *, newest_first: bool = False
    ) -> Iterator[tuple[int, Entry]]:
        """Entries, each with where its line begins."""
        low, high = self._start, self.end
        if selection.after is not None:
            low = self._find_number(selection.after + 1)
        if selection.before is not None:
            high = self._find_number(selection.before)
        if selection.run_id is not None:
            first = self._index.find(self._fd, self.end, selection.run_id)
            if first is None:
                return
            low = max(low, first)
        read = lines_backward if newest_first else lines_forward
        last: Entry | None = None
        for offset, line in read(self._fd, low, high):
            if is_commit(line):
                continue
            entry = parse_entry(line) or _damaged(line, last)
            last = entry
            if _is_selected(entry, selection):
                yield offset, entry

    def holds(self, number: int) -> bool:
        """See `ConversationReader.holds`."""
        one = Selection(after=number - 1, before=number + 1)
        return any(entry.number == number for entry in self.entries(one))

    def lines(self) -> Iterator[Line]:
        """All lines behind the first one, commits too."""
        return lines_forward(self._fd, self._start, self.end)

    def _find_number(self, number: int) -> int:
        """Where the first line begins whose number is at least this one."""
        low, high = self._start, self.end
        while high - low > _SMALL:
            middle = (low + high) // 2
            found = _next_numbered(self._fd, middle, high)
            if found is None or found[1] >= number:
                high = middle
            else:
                low = found[0]
        for offset, line in lines_forward(self._fd, low, self.end):
            known = number_of(line)
            if known is not None and known >= number:
                return offset
        return self.end


def find_commit(fd: int, start: int, size: int, index: FileIndex) -> tuple[int, State]:
    """Where the last commit of a file ends, and what it says.

    What follows it was not acknowledged: whoever wrote it was killed, or the power was cut. So is
    the very last batch if it is not whole: the disk may keep a later piece and lose an earlier one.
    All in front of it was durable before anybody wrote behind it, so damage there is of another
    kind, and costs what is damaged.
    """
    for offset, line in lines_backward(fd, start, size):
        commit = parse_commit(line)
        end = offset + len(line) + 1
        if commit is None or end > size:  # its own end is missing
            continue
        if end == size and end != index.whole_up_to:
            lines = os.pread(fd, commit.length, offset - commit.length)
            if checksum(lines) != commit.checksum and not is_readable(lines):
                continue
            index.whole_up_to = end
        return end, commit.state
    return start, State()


def lines_forward(fd: int, start: int, end: int) -> Iterator[Line]:
    """The lines of a part of a file; `start` and `end` are where lines begin."""
    offset, rest = start, b""
    position, chunk = start, _SMALL
    while position < end:
        data = os.pread(fd, min(chunk, end - position), position)
        if not data:
            break  # somebody has cut it off since
        position, chunk = position + len(data), min(2 * chunk, _LARGE)
        *lines, rest = (rest + data).split(_NEWLINE)
        for line in lines:
            yield offset, line
            offset += len(line) + 1
    if rest:
        yield offset, rest


def lines_backward(fd: int, start: int, end: int) -> Iterator[Line]:
    """The same lines, the last one first. What stands behind the last line end is a line too."""
    position, chunk, tail = end, _SMALL, list[bytes]()
    while position > start:
        length = min(chunk, position - start)
        data = os.pread(fd, length, position - length)
        if len(data) < length:
            raise Shrunk
        head, *lines = data.split(_NEWLINE)
        if lines:
            offset = position + sum(map(len, tail))
            lines[-1] += b"".join(reversed(tail))
            tail.clear()
            for line in reversed(lines):
                offset -= len(line)
                if line:
                    yield offset, line
                offset -= 1
        tail.append(head)
        position, chunk = position - length, min(2 * chunk, _LARGE)
    if rest := b"".join(reversed(tail)):
        yield start, rest


def _next_numbered(fd: int, position: int, end: int) -> tuple[int, int] | None:
    """The first line that begins behind a position and has a number: where it begins, and that."""
    is_part = True  # of the line that the position is in the middle of
    for offset, line in lines_forward(fd, position, end):
        if not is_part and (number := number_of(line)) is not None:
            return offset, number
        is_part = False
    return None


def _damaged(line: bytes, last: Entry | None) -> Entry:
    """What stands for a line that cannot be read. Nobody can read its message either.

    Where its run is not legible, it is taken for one of the run before it: a run that lacks a
    message must not go on as if it had not been.
    """
    run = run_of(line)
    run_id = None
    if run is not None and run != b"null":
        run_id = run[1:-1].decode(errors="replace")
    elif run is None and last is not None:
        run_id = last.run_id
    place = (last.number, last.position + 1) if last is not None else (0, 0)
    return Entry(place[0], run_id, place[1], role="", kind="", data=b"")


def _is_selected(entry: Entry, selection: Selection) -> bool:
    return (selection.roles is None or entry.role in selection.roles) and (
        selection.run_id is None or entry.run_id == selection.run_id
    )
