"""Conversations in the tables of an SQLite file (`shared/sql/sqlite`)."""

import os
import sqlite3
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any, Final

from shared.conversation.local.sqlite_database import Database, translated_errors
from shared.conversation.local.storage import (
    ConversationReader,
    ConversationWriter,
    Entry,
    Selection,
    State,
)
from shared.identifier import is_alone
from shared.notification.local import Lookout

_FIELDS: Final = tuple(field.name for field in fields(State))
_STATE: Final = ", ".join(_FIELDS)
_ENTRY: Final = "number, run_id, position, role, kind, CAST(data AS BLOB)"
_MANY: Final = 500
"""Ids in one query; older SQLite takes 999 values."""

_QUESTIONS: Final = ", ".join("?" * len(_FIELDS))
_EXCLUDED: Final = ", ".join(f"{name} = excluded.{name}" for name in _FIELDS)

# Put together from names of columns and question marks, never from values.
_READ_STATE: Final = f"SELECT key, {_STATE} FROM conversation WHERE id = ?"  # noqa: S608 - see above
_WRITE_STATE: Final = (
    f"INSERT INTO conversation (id, {_STATE}) VALUES (?, {_QUESTIONS}) "  # noqa: S608 - see above
    f"ON CONFLICT (id) DO UPDATE SET {_EXCLUDED}"
)
_ADD: Final = (
    "INSERT INTO message (conversation, number, run_id, position, role, kind, data) "
    "VALUES (?, ?, ?, ?, ?, ?, CAST(? AS TEXT))"
)


class SqliteStorage:
    """See `Storage`. `path` is made if it is not there; its folder has to be.

    Raises:
        ConfigurationError: `path` cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path.absolute())
        self._lookout = _SqliteLookout(self._database, path)

    @property
    def lookout(self) -> Lookout:
        """See `Storage.lookout`."""
        return self._lookout

    @contextmanager
    def reading(self, conversation_id: str) -> Iterator[ConversationReader]:
        """See `Storage.reading`."""
        with (
            self._database.reading() as connection,
            closing(_Rows(connection, conversation_id)) as rows,
        ):
            yield rows

    @contextmanager
    def writing(self, conversation_id: str) -> Iterator[ConversationWriter]:
        """See `Storage.writing`."""
        with (
            self._database.writing() as connection,
            closing(_Rows(connection, conversation_id)) as rows,
        ):
            yield rows
        if rows.has_removed:
            self._database.erase_removed()

    def conversation_ids(self, now: float) -> list[str]:
        """See `Storage.conversation_ids`."""
        query = (
            "SELECT id FROM conversation WHERE count > 0 AND (expires_at IS NULL OR expires_at > ?)"
        )
        with self._database.reading() as connection:
            names = [name for (name,) in connection.execute(query, (now,))]
        return [name for name in names if not is_alone(name)]

    def forget_expired(self, now: float) -> None:
        """See `Storage.forget_expired`."""
        query = "SELECT id FROM conversation WHERE expires_at <= ?"
        with self._database.reading() as connection:
            names = [name for (name,) in connection.execute(query, (now,))]
        for name in names:
            with self.writing(name) as conversation:
                if conversation.state.is_over(now):
                    conversation.forget()

    def close(self) -> None:
        """See `Storage.close`."""
        self._lookout.close()
        self._database.close()


class _Rows:
    """The rows of one conversation, within a transaction."""

    def __init__(self, connection: sqlite3.Connection, conversation_id: str) -> None:
        self._connection = connection
        self._conversation_id = conversation_id
        self._cursors: list[sqlite3.Cursor] = []
        self.has_removed = False
        self._read_state()

    @property
    def state(self) -> State:
        return self._state

    def entries(self, selection: Selection, *, newest_first: bool = False) -> Iterator[Entry]:
        where, values = self._where(selection)
        order = "DESC" if newest_first else "ASC"
        query = f"SELECT {_ENTRY} FROM message WHERE {where} ORDER BY number {order}"  # noqa: S608 - parts of `_where`
        rows = self._connection.execute(query, values)
        self._cursors.append(rows)
        return (Entry(*row) for row in rows)

    def holds(self, number: int) -> bool:
        query = "SELECT 1 FROM message WHERE conversation = ? AND number = ?"
        return self._connection.execute(query, (self._key, number)).fetchone() is not None

    def add(self, state: State, entries: Sequence[Entry]) -> None:
        self._connection.execute(_WRITE_STATE, (self._conversation_id, *astuple(state)))
        self._read_state()
        rows = ((self._key, *astuple(entry)) for entry in entries)
        self._connection.executemany(_ADD, rows)

    def keep(self, state: State, *, gone: Selection) -> int:
        where, values = self._where(gone)
        removed = self._connection.execute(f"DELETE FROM message WHERE {where}", values).rowcount  # noqa: S608 - as above
        self.has_removed = self.has_removed or removed > 0
        self.add(replace(state, count=state.count - removed), [])
        return removed

    def forget(self) -> None:
        self.has_removed = True
        self._connection.execute("DELETE FROM message WHERE conversation = ?", (self._key,))
        self._connection.execute("DELETE FROM conversation WHERE key = ?", (self._key,))
        self._read_state()

    def close(self) -> None:
        """End all reading, also that which stopped in the middle."""
        for cursor in self._cursors:
            cursor.close()

    def _read_state(self) -> None:
        row = self._connection.execute(_READ_STATE, (self._conversation_id,)).fetchone()
        self._key = row[0] if row is not None else -1
        self._state = _state(row[1:]) if row is not None else State()

    def _where(self, selection: Selection) -> tuple[str, list[Any]]:
        conditions, values = ["conversation = ?"], [self._key]
        for condition, value in (
            ("number > ?", selection.after),
            ("number < ?", selection.before),
            ("run_id = ?", selection.run_id),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        if selection.roles is not None:
            conditions.append(f"role IN ({', '.join('?' * len(selection.roles))})")
            values += selection.roles
        return " AND ".join(conditions), values


class _SqliteLookout:
    """Asks the database whether another connection has written, and then what."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._left_behind: list[sqlite3.Connection | None] = []
        self._pid = os.getpid()
        self._version: int | None = None

    def narrow(self, topics: Collection[str]) -> Collection[str]:
        with translated_errors(self._path):
            version = self._opened().execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return []
        self._version = version
        return topics

    def look(self, topics: Collection[str]) -> Mapping[str, Hashable]:
        marks: dict[str, Hashable] = dict.fromkeys(topics, State().mark)
        names = list(topics)
        with translated_errors(self._path):
            for start in range(0, len(names), _MANY):
                some = names[start : start + _MANY]
                query = (
                    "SELECT id, number, count FROM conversation "  # noqa: S608 - question marks
                    f"WHERE id IN ({', '.join('?' * len(some))})"
                )
                for name, number, count in self._opened().execute(query, some):
                    marks[name] = (number, count)
        return marks

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._pid != os.getpid():  # as in `Database`: not used in a child, and not closed either
            self._left_behind.append(self._connection)
            self._connection, self._pid = None, os.getpid()
        if self._connection is None:
            self._connection = self._database.connect()
            self._version = None
        return self._connection


def _state(row: Sequence[Any]) -> State:
    state = State(*row)
    return replace(state, is_deleted=bool(state.is_deleted))
