"""Conversations as files in a folder: names, locks, deadlines.

    conversations/<name>.jsonl   one conversation
    alone/<name>.jsonl           the history of a run outside of any conversation
    deadlines/<ms>~<name>        empty: a file that is to be removed then, if it still says so
    locks/<00 to ff>             see `shared.conversation.local.file_lock`

A name is made of the id's beginning, for people, and of its digest: ids differ in upper and lower
case, which some file systems take for the same, and are longer than names can be.
"""

import hashlib
import os
import re
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import structlog

from shared.conversation.local.disk import (
    make_durable,
    make_folder,
    remove_file,
    translated_errors,
)
from shared.conversation.local.file_format import FILE_VERSION, parse_header
from shared.conversation.local.file_lock import LOCKS, FileLocks, HeldLock
from shared.conversation.local.file_reading import FileIndex, FileReader, Shrunk
from shared.conversation.local.file_writing import FileWriter
from shared.conversation.local.storage import (
    ConversationReader,
    ConversationWriter,
    Entry,
    Selection,
    State,
)
from shared.errors import ConfigurationError, CorruptEntryError, StoreUnavailableError
from shared.identifier import is_alone
from shared.notification.local import Lookout

_CONVERSATIONS: Final = "conversations"
_ALONE: Final = "alone"
_DEADLINES: Final = "deadlines"
_LOCKS: Final = "locks"
_FOLDERS: Final = (_CONVERSATIONS, _ALONE, _DEADLINES, _LOCKS)
_INDEXES: Final = 256
"""Files of which is remembered what was learnt about them."""
_SWEEP_S: Final = 30.0
"""How often somebody looks for files that have had their time."""
_HEADER: Final = 4096
"""No first line is longer."""
_TRIES: Final = 100
_TOPICS: Final = 16_384
_ENDING: Final = ".jsonl"
_NOT_PLAIN: Final = re.compile(r"[^a-z0-9]+")

log = structlog.get_logger()


class FileStorage:
    """See `Storage`. `root` is made if it is not there; its parent has to be.

    Raises:
        ConfigurationError: `root` cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        for folder in (self._root, *(self._root / name for name in _FOLDERS)):
            make_folder(folder)
        self._locks = FileLocks(self._root / "locks")
        self._indexes: OrderedDict[Path, FileIndex] = OrderedDict()
        self._indexes_lock = threading.Lock()
        self._swept_at = float("-inf")
        self._lookout = _FileLookout(self._locks, self._path, self._mark)

    @property
    def lookout(self) -> Lookout:
        """See `Storage.lookout`."""
        return self._lookout

    @contextmanager
    def reading(self, conversation_id: str) -> Iterator[ConversationReader]:
        """See `Storage.reading`."""
        path = self._path(conversation_id)
        with translated_errors(self._root), self._opened(path, conversation_id) as reader:
            yield reader if reader is not None else _Nothing()

    @contextmanager
    def writing(self, conversation_id: str) -> Iterator[ConversationWriter]:
        """See `Storage.writing`."""
        path = self._path(conversation_id)
        with translated_errors(self._root), self._held(path) as lock:
            writer = self._writer(path, lock, conversation_id)
            try:
                yield writer
            finally:
                writer.close()

    def conversation_ids(self, now: float) -> list[str]:
        """See `Storage.conversation_ids`."""
        names: list[str] = []
        with translated_errors(self._root):
            for path in (self._root / _CONVERSATIONS).glob(f"*{_ENDING}"):
                with self._opened(path, None) as reader:
                    if reader is None or reader.state.count == 0 or reader.state.is_over(now):
                        continue
                    if reader.conversation_id is not None:
                        names.append(reader.conversation_id)
                    else:
                        log.error("conversation.unnamed", file=path.name)
        return names

    def forget_expired(self, now: float) -> None:
        """See `Storage.forget_expired`; looked at from time to time only."""
        if time.monotonic() - self._swept_at < _SWEEP_S:
            return
        self._swept_at = time.monotonic()
        with translated_errors(self._root):
            for mark in sorted((self._root / _DEADLINES).iterdir()):
                deadline, _, name = mark.name.partition("~")
                folder, _, name = name.partition("~")
                if not deadline.isdecimal() or folder not in _FOLDERS:
                    continue
                if int(deadline) > now * 1000:
                    break
                self._forget_if_over(self._root / folder / name, now)
                remove_file(mark)

    def close(self) -> None:
        """Files are open only while they are used."""

    def _forget_if_over(self, path: Path, now: float) -> None:
        with self._held(path) as lock:
            writer = self._writer(path, lock, None)
            try:
                if writer.state.is_over(now):
                    writer.forget()
            finally:
                writer.close()

    def _writer(self, path: Path, lock: HeldLock, conversation_id: str | None) -> FileWriter:
        return FileWriter(
            conversation_id or "",
            path,
            lock,
            open_reader=partial(self._open, path, conversation_id),
            note_deadline=partial(self._note_deadline, path),
        )

    @contextmanager
    def _held(self, path: Path) -> Iterator[HeldLock]:
        """Hold the lock of a file, with what was left undone under it seen to."""
        with self._locks.hold(_lock_of(path)) as lock:
            if (noted := lock.note) is not None:
                self._finish(noted)
                lock.forget_note()
            yield lock

    def _finish(self, noted: Path) -> None:
        """Make durable what somebody wrote who was killed before he had seen to it himself.

        It is there to be seen and built upon, so it must not be gone after a power cut.
        """
        if noted.parent.parent != self._root or noted.parent.name not in _FOLDERS:
            return  # a note that is damaged
        try:
            fd = os.open(noted, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        else:
            try:
                make_durable(fd)
            finally:
                os.close(fd)
        make_durable(noted.parent)

    @contextmanager
    def _opened(self, path: Path, conversation_id: str | None) -> Iterator[FileReader | None]:
        reader = self._open(path, conversation_id)
        try:
            yield reader
        finally:
            if reader is not None:
                reader.close()

    def _open(self, path: Path, conversation_id: str | None) -> FileReader | None:
        """The file as it is now; None where there is none.

        Raises:
            CorruptEntryError: It is that of another conversation.
            ConfigurationError: A newer release wrote it.
        """
        for _ in range(_TRIES):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                line = os.pread(fd, _HEADER, 0).partition(b"\n")
                header = line[0] + line[1] if line[1] else b""
                _check_header(path, parse_header(header), conversation_id)
                return FileReader(fd, header, self._index(path, header))
            except Shrunk:
                os.close(fd)
            except BaseException:
                os.close(fd)
                raise
        raise StoreUnavailableError(f"{path} does not stand still; trying again is safe.")

    def _index(self, path: Path, header: bytes) -> FileIndex:
        with self._indexes_lock:
            index = self._indexes.pop(path, None)
            if index is None or index.header != header:
                index = FileIndex(header)
            self._indexes[path] = index
            if len(self._indexes) > _INDEXES:
                self._indexes.popitem(last=False)
            return index

    def _note_deadline(self, path: Path, deadline: float) -> None:
        # Rounded up, so that nobody comes too early and then not any more.
        mark = f"{int(deadline * 1000) + 1:013}~{path.parent.name}~{path.name}"
        folder = self._root / _DEADLINES
        os.close(os.open(folder / mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        make_durable(folder)

    def _path(self, conversation_id: str) -> Path:
        folder = _ALONE if is_alone(conversation_id) else _CONVERSATIONS
        return self._root / folder / file_name(conversation_id)

    def _mark(self, conversation_id: str) -> Hashable:
        with self._opened(self._path(conversation_id), conversation_id) as reader:
            return (reader.state if reader is not None else State()).mark


class _Nothing:
    """A conversation that is not there."""

    state = State()

    def entries(self, _: Selection, *, newest_first: bool = False) -> Iterator[Entry]:  # noqa: ARG002 - as of the protocol
        return iter(())

    def holds(self, _: int) -> bool:
        return False


class _FileLookout:
    """Looks at the locks, of which there are few, and then at the files whose lock was used."""

    def __init__(
        self,
        locks: FileLocks,
        path_of: Callable[[str], Path],
        mark_of: Callable[[str], Hashable],
    ) -> None:
        self._locks = locks
        self._mark_of = mark_of
        self._seen: dict[int, int] = {}
        # Asked for twenty times a second, for each conversation that is watched.
        self._lock_of = lru_cache(maxsize=_TOPICS)(lambda topic: _lock_of(path_of(topic)))

    def narrow(self, topics: Collection[str]) -> Collection[str]:
        by_lock: dict[int, list[str]] = {}
        for topic in topics:
            by_lock.setdefault(self._lock_of(topic), []).append(topic)
        seen = {number: self._locks.changed_at(number) for number in by_lock}
        changed = [number for number in seen if self._seen.get(number) != seen[number]]
        self._seen = seen
        return [topic for number in changed for topic in by_lock[number]]

    def look(self, topics: Collection[str]) -> Mapping[str, Hashable]:
        return {topic: self._mark_of(topic) for topic in topics}


def file_name(conversation_id: str) -> str:
    """The name of a conversation's file; of two ids never the same, whatever they look like."""
    readable = _NOT_PLAIN.sub("-", conversation_id.lower())[:40].strip("-")
    digest = hashlib.sha256(conversation_id.encode(errors="surrogatepass")).hexdigest()[:40]
    return f"{readable}-{digest}{_ENDING}" if readable else f"{digest}{_ENDING}"


def _lock_of(path: Path) -> int:
    return zlib.crc32(path.name.encode()) % LOCKS


def _check_header(path: Path, header: Mapping[str, object], conversation_id: str | None) -> None:
    version = header.get("version")
    if isinstance(version, int) and version > FILE_VERSION:
        raise ConfigurationError(
            f"{path} is of version {version}, this process reads up to {FILE_VERSION}; update it."
        )
    named = header.get("conversation", conversation_id)
    if conversation_id is not None and named != conversation_id:
        raise CorruptEntryError(
            f"{path} holds another conversation than {conversation_id}; it was copied or renamed. "
            "Move it out of the way."
        )
