"""An SQLite file: its connections, its schema, and its errors in the words of this project."""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Final

from shared.errors import (
    AgentsError,
    ConfigurationError,
    CorruptEntryError,
    StoreUnavailableError,
)

BUSY_S: Final = 5.0
"""How long who writes may be waited for. It takes milliseconds, unless the process stands still."""

APPLICATION_ID: Final = 0x61677473
"""What this project's files say that they are: 'agts'."""

_PAUSE_S: Final = 0.001
_ERASE_S: Final = 0.2
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class Database:
    """One file. For any number of threads, beside any number of other processes.

    There is one connection that writes, which threads wait for in a line of their own: SQLite's own
    way to wait is to ask again and again, ever more rarely, and who is unlucky never gets his turn.
    Those that read are as many as there are readers at once; they wait for nobody.

    Raises:
        ConfigurationError: The file is no database, that of another program, or of a newer release.
    """

    def __init__(self, path: Path, *, busy_s: float = BUSY_S) -> None:
        self._path = path
        self._busy_s = busy_s
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._left_behind: list[object] = []
        _create(path)
        self._place = _place(path)
        with translated_errors(path, at_start=True):
            self._writer = self._prepared()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one moment of the database."""
        with translated_errors(self._path):
            connection = self._take()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                _roll_back(connection)
                with self._lock:
                    self._idle.append(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, alone; it is durable when the context ends, or undone by an exception."""
        if not self._writing.acquire(timeout=self._busy_s):
            raise _busy(self._path, self._busy_s)
        try:
            self._check_place()
            with translated_errors(self._path):
                connection = self._opened_writer()
                self._insist(lambda: connection.execute("BEGIN IMMEDIATE"))
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    _roll_back(connection)
        finally:
            self._writing.release()

    def connect(self, *, timeout_s: float = BUSY_S) -> sqlite3.Connection:
        """A connection of the caller's own, to be closed by him."""
        connection = sqlite3.connect(
            self._path,
            timeout=timeout_s,
            isolation_level=None,
            check_same_thread=False,  # one thread at a time, though not always the same one
            cached_statements=64,
        )
        # What is not UTF-8 is not ours; this way it costs one message, and not the whole answer.
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        return connection

    def erase_removed(self) -> None:
        """Take what was removed out of the log of writes as well, if nobody is reading now."""
        with suppress(AgentsError), self._writing, translated_errors(self._path):
            connection = self._opened_writer()
            connection.execute(f"PRAGMA busy_timeout = {int(_ERASE_S * 1000)}")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute("PRAGMA busy_timeout = 0")

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            connections = [*self._idle, *([self._writer] if self._writer is not None else [])]
            self._idle, self._writer = [], None
        if self._pid == os.getpid():
            for connection in connections:
                connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            self._leave_behind()
            if self._idle:
                return self._idle.pop()
        return self.connect()

    def _opened_writer(self) -> sqlite3.Connection:
        with self._lock:
            self._leave_behind()
            if self._writer is None:
                # It does the waiting itself.
                self._writer = self.connect(timeout_s=0)
            return self._writer

    def _check_place(self) -> None:
        """Refuse to write into a file that has no name any more: nobody would ever read it again.

        Raises:
            StoreUnavailableError: The file was moved, removed or replaced.
        """
        if _place(self._path) != self._place:
            raise StoreUnavailableError(
                f"{self._path} was moved, removed or replaced while it was in use; put it back, or "
                "start this program again."
            )

    def _leave_behind(self) -> None:
        """In a process that was forked, use no connection of its parent.

        They must not even be closed: that would take the parent's locks away.
        """
        if self._pid != os.getpid():
            self._left_behind += [self._idle, self._writer]
            self._idle, self._writer = [], None
            self._pid = os.getpid()

    def _prepared(self) -> sqlite3.Connection:
        connection = self.connect(timeout_s=0)
        try:
            self._insist(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchall())
            if _is_current(connection):
                return connection
            self._insist(lambda: connection.execute("BEGIN IMMEDIATE"))
            try:
                # Looked at again: another process may have been faster.
                migrate(connection, self._path)
                connection.execute("COMMIT")
            finally:
                _roll_back(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _insist(self, step: Callable[[], object]) -> None:
        """Do a step that another process may be in the way of.

        Raises:
            StoreUnavailableError: It was, for all of `busy_s`.
        """
        deadline = time.monotonic() + self._busy_s
        while True:
            try:
                step()
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY:
                    raise
                if time.monotonic() > deadline:
                    raise _busy(self._path, self._busy_s) from error
                time.sleep(_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            else:
                return


_PRAGMAS: Final = (
    "PRAGMA synchronous = FULL",  # what is committed survives a power cut
    "PRAGMA fullfsync = ON",  # on macOS, too
    "PRAGMA secure_delete = ON",  # what is removed is overwritten
    "PRAGMA foreign_keys = ON",
)


def migrations() -> list[tuple[int, str]]:
    """All steps from an empty file to the newest schema, each with the version it leads to."""
    folder = files("shared") / "sql" / "sqlite"
    scripts = sorted(each.name for each in folder.iterdir() if each.name.endswith(".sql"))
    return [(int(name.partition("_")[0]), (folder / name).read_text()) for name in scripts]


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a database to the newest schema, within the transaction that is open.

    Raises:
        ConfigurationError: It is that of another program or of a newer release.
    """
    version = _value(connection, "PRAGMA user_version")
    application = _value(connection, "PRAGMA application_id")
    steps = migrations()
    newest = steps[-1][0]
    has_tables = _value(connection, "SELECT count(*) FROM sqlite_master")
    if application != APPLICATION_ID and (application or version or has_tables):
        raise ConfigurationError(
            f"{path} is the database of another program; name a file of its own for conversations."
        )
    if version > newest:
        raise ConfigurationError(
            f"{path} has schema version {version}, and this process knows those up to {newest}: a "
            "newer release wrote it. Update this one, or name another file."
        )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for step, script in steps:
        if step > version:
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {step}")


@contextmanager
def translated_errors(path: Path, *, at_start: bool = False) -> Iterator[None]:
    """Turn sqlite3's errors into this project's."""
    try:
        yield
    except sqlite3.Error as error:
        if _code(error) in _DAMAGE:
            kind = ConfigurationError if at_start else CorruptEntryError
            raise kind(
                f"{path} is no SQLite database, or is damaged ({error}). Restore it from a backup, "
                "or name another file."
            ) from error
        if isinstance(error, sqlite3.OperationalError | sqlite3.InterfaceError):
            raise StoreUnavailableError(
                f"The database {path} cannot serve this now ({error}). Check the disk, its space "
                "and the rights of this user; trying again is safe."
            ) from error
        raise


def _create(path: Path) -> None:
    """Make an empty file that only its owner can read; SQLite makes its others alike.

    Raises:
        ConfigurationError: It cannot be made.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no folder {path.parent}, in which {path.name} would be made; make it, or "
            "correct the path."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be used as a database ({error.strerror}); name another file, or change "
            "its rights."
        ) from error


def _place(path: Path) -> tuple[int, int] | None:
    """Which file has this name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_current(connection: sqlite3.Connection) -> bool:
    return (
        _value(connection, "PRAGMA application_id") == APPLICATION_ID
        and _value(connection, "PRAGMA user_version") == migrations()[-1][0]
    )


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would end the transaction first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _value(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _code(error: sqlite3.Error) -> int:
    """The error's code, without what refines it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _busy(path: Path, busy_s: float) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"Somebody else has been writing to {path} for {busy_s:g} s; find out which process stands "
        "still in the middle. Trying again is safe."
    )
