"""Writing a conversation's file: what returned is on the disk, what was cut off did not happen."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from shared.conversation.local.disk import make_durable, remove_file, write_all
from shared.conversation.local.file_format import (
    commit_line,
    header_line,
    is_commit,
    message_lines,
)
from shared.conversation.local.file_lock import HeldLock
from shared.conversation.local.file_reading import FileReader
from shared.conversation.local.storage import EVERYTHING, Entry, Selection, State

NEW: Final = ".new"
"""What the name of a file ends with that has not taken the place of its predecessor yet."""

_BUFFER: Final = 1024 * 1024

log = structlog.get_logger()


class FileWriter:
    """A conversation's file, for whoever holds its lock; see `ConversationWriter`.

    `open_reader` opens the file as it is now, if there is one. `note_deadline` remembers that the
    file is to be removed at some time.
    """

    def __init__(
        self,
        conversation_id: str,
        path: Path,
        lock: HeldLock,
        *,
        open_reader: Callable[[], FileReader | None],
        note_deadline: Callable[[float], None],
    ) -> None:
        self._conversation_id = conversation_id
        self._path = path
        self._lock = lock
        self._open_reader = open_reader
        self._note_deadline = note_deadline
        self._reader = open_reader()
        self._state = self._reader.state if self._reader is not None else State()

    @property
    def state(self) -> State:
        """The newest one."""
        return self._state

    def entries(self, selection: Selection, *, newest_first: bool = False) -> Iterator[Entry]:
        """See `ConversationReader.entries`."""
        if self._reader is None:
            return iter(())
        return self._reader.entries(selection, newest_first=newest_first)

    def holds(self, number: int) -> bool:
        """See `ConversationReader.holds`."""
        return self._reader is not None and self._reader.holds(number)

    def add(self, state: State, entries: Sequence[Entry]) -> None:
        """See `ConversationWriter.add`."""
        self._check_deadline(state)
        lines = message_lines(entries)
        if self._reader is None:
            self._put_in_place([lines], state)
        else:
            with self._lock.noting(self._path):
                self._append(self._reader, lines + commit_line(state, lines))
            self._reopen()

    def keep(self, state: State, *, gone: Selection) -> int:
        """See `ConversationWriter.keep`."""
        reader = self._reader
        dropped = {offset for offset, _ in reader.find(gone)} if reader is not None else set()
        removed = self._state.count if gone == EVERYTHING else len(dropped)
        if reader is None or removed == 0:
            if state != self._state:
                self.add(state, [])
            return 0
        self._check_deadline(state)
        self._put_in_place(
            (
                line + b"\n"
                for offset, line in reader.lines()
                if offset not in dropped and not is_commit(line)
            ),
            replace(state, count=state.count - removed),
        )
        return removed

    def forget(self) -> None:
        """See `ConversationWriter.forget`."""
        if self._reader is not None:
            with self._lock.noting(self._path):
                remove_file(self._path.with_name(self._path.name + NEW))
                remove_file(self._path)
                make_durable(self._path.parent)
        self.close()
        self._reader, self._state = None, State()

    def _append(self, reader: FileReader, lines: bytes) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if reader.size > reader.end:
                log.warning(
                    "conversation.cut_off", file=self._path.name, bytes=reader.size - reader.end
                )
                os.ftruncate(fd, reader.end)
            try:
                write_all(fd, lines, reader.end)
            except OSError:
                # A disk that is full. What came before it stays as it is.
                with suppress(OSError):
                    os.ftruncate(fd, reader.end)
                raise
            make_durable(fd)
        finally:
            os.close(fd)

    def _put_in_place(self, lines: Iterable[bytes], state: State) -> None:
        """Put a file with these messages in the place of the present one, in one step.

        It is durable before it is anybody's, so its commit needs to answer for no lines.
        """
        new = self._path.with_name(self._path.name + NEW)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "wb", buffering=_BUFFER) as file:
            file.write(header_line(self._conversation_id))
            file.writelines(lines)
            file.write(commit_line(state, b""))
            file.flush()
            make_durable(file.fileno())
        with self._lock.noting(self._path):
            new.replace(self._path)
            make_durable(self._path.parent)
        self._reopen()

    def close(self) -> None:
        """Close the file; the lock stays its owner's."""
        if self._reader is not None:
            self._reader.close()

    def _reopen(self) -> None:
        self.close()
        self._reader = self._open_reader()
        self._state = self._reader.state if self._reader is not None else State()

    def _check_deadline(self, state: State) -> None:
        """Remember a new deadline, before it is one: a deadline that is forgotten leaves a file."""
        if state.expires_at is not None and state.expires_at != self._state.expires_at:
            self._note_deadline(state.expires_at)
