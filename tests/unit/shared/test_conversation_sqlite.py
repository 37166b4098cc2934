"""Conversations in SQLite: the schema and its versions, the file, and what stands in its way."""

import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.conversation.local import sqlite_database
from shared.conversation.local.sqlite_database import APPLICATION_ID, migrations
from shared.conversation.protocol import Writer
from shared.conversation.sqlite import SqliteConversationStore
from shared.errors import ConfigurationError, CorruptEntryError, FencedError, StoreUnavailableError
from shared.testing.conversation.value import imported, messages, run_name, texts

NAME = "support:ada"
NEWEST = migrations()[-1][0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chat.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteConversationStore]:
    store = SqliteConversationStore(path)
    yield store
    await store.aclose()


def ask(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return list(connection.execute(query))


async def test_a_commit_is_durable_and_readers_do_not_wait(
    path: Path, store: SqliteConversationStore
) -> None:
    """Write-ahead log, an fsync for each commit, also of a disk that would leave it for later."""
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]
    with store._storage._database.writing() as connection:  # type: ignore[attr-defined]  # that of SQLite
        for pragma, value in (("synchronous", 2), ("fullfsync", 1), ("secure_delete", 1)):
            assert connection.execute(f"PRAGMA {pragma}").fetchone() == (value,)


async def test_the_files_are_for_their_owner_alone(path: Path) -> None:
    """0600, those that SQLite makes beside it as well, whatever the umask allows."""
    former = os.umask(0)
    try:
        store = SqliteConversationStore(path)
        await store.append(NAME, [imported("x")])
        made = list(path.parent.iterdir())
        modes = {stat.S_IMODE(each.stat().st_mode) for each in made}
        await store.aclose()
    finally:
        os.umask(former)
    assert len(made) == 3
    assert modes == {0o600}


async def test_a_file_of_an_older_schema_is_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step, each once, with everything that is in it; and by one process of several."""
    older = SqliteConversationStore(path)
    await older.append(NAME, [imported("kept")])
    await older.aclose()
    steps = [
        *migrations(),
        (NEWEST + 1, "CREATE TABLE added (value TEXT);\nINSERT INTO added VALUES ('a; b');\n"),
        (NEWEST + 2, "-- A comment; with a semicolon.\nALTER TABLE added ADD COLUMN more TEXT;\n"),
    ]
    monkeypatch.setattr(sqlite_database, "migrations", lambda: steps)
    for _ in range(2):
        newer = SqliteConversationStore(path)
        assert texts(await newer.list_messages(NAME)) == ["kept"]
        await newer.append(NAME, [imported("new")])
        await newer.remove(NAME, (await newer.list_messages(NAME))[-1].cursor or "")
        await newer.aclose()
    assert ask(path, "SELECT value, more FROM added") == [("a; b", None)]
    assert ask(path, "PRAGMA user_version") == [(NEWEST + 2,)]


async def test_a_migration_that_fails_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps together or none."""
    older = SqliteConversationStore(path)
    await older.append(NAME, [imported("kept")])
    await older.aclose()
    steps = [*migrations(), (NEWEST + 1, "DROP TABLE message;\nCREATE TABLE conversation (x);\n")]
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_database, "migrations", lambda: steps)
        with pytest.raises(StoreUnavailableError, match="already exists"):
            SqliteConversationStore(path)
    again = SqliteConversationStore(path)
    assert texts(await again.list_messages(NAME)) == ["kept"]
    await again.aclose()


async def test_a_file_of_a_newer_schema_is_refused(path: Path) -> None:
    """When the store is built; the error names both versions, and nothing is changed."""
    store = SqliteConversationStore(path)
    await store.append(NAME, [imported("kept")])
    await store.aclose()
    ask(path, f"PRAGMA user_version = {NEWEST + 1}")
    with pytest.raises(ConfigurationError, match=f"version {NEWEST + 1}.* up to {NEWEST}.*Update"):
        SqliteConversationStore(path)
    assert ask(path, "PRAGMA user_version") == [(NEWEST + 1,)]


@pytest.mark.parametrize(
    "made", ["CREATE TABLE users (name)", "PRAGMA user_version = 7", "PRAGMA application_id = 99"]
)
def test_the_database_of_another_program_is_refused(path: Path, made: str) -> None:
    """It is left as it is."""
    ask(path, made)
    with pytest.raises(ConfigurationError, match="another program"):
        SqliteConversationStore(path)
    assert ask(path, "PRAGMA application_id") != [(APPLICATION_ID,)]


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """It is left as it is."""
    path.write_text("just some text, and more of it than a header has bytes" * 100)
    with pytest.raises(ConfigurationError, match="no SQLite database"):
        SqliteConversationStore(path)
    assert path.read_text().startswith("just some text")


def test_a_path_that_cannot_be_used_is_a_named_error(tmp_path: Path) -> None:
    """When the store is built, with what to change."""
    with pytest.raises(ConfigurationError, match="There is no folder"):
        SqliteConversationStore(tmp_path / "missing" / "chat.db")
    with pytest.raises(ConfigurationError, match="cannot be used as a database"):
        SqliteConversationStore(tmp_path)


async def test_a_damaged_database_is_a_named_error(path: Path) -> None:
    """When it is opened, and in the middle of its use."""
    store = SqliteConversationStore(path)
    await store.append(NAME, [imported("x" * 3000) for _ in range(100)])
    await store.aclose()
    store = SqliteConversationStore(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(CorruptEntryError, match="damaged"):
        await store.list_messages(NAME)
    with pytest.raises(ConfigurationError, match="damaged"):
        SqliteConversationStore(path)
    await store.aclose()


async def test_a_database_that_was_moved_away_is_not_written_to(
    path: Path, store: SqliteConversationStore
) -> None:
    """What would be written there, nobody would ever read."""
    await store.append(NAME, [imported("a")])
    path.rename(path.with_suffix(".old"))
    with pytest.raises(StoreUnavailableError, match="moved, removed or replaced"):
        await store.append(NAME, [imported("b")])
    path.with_suffix(".old").rename(path)
    await store.append(NAME, [imported("c")])
    assert texts(await store.list_messages(NAME)) == ["a", "c"]


async def test_who_stands_still_while_writing_is_not_waited_for_for_ever(
    path: Path, store: SqliteConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers get an error in bounded time; readers are not concerned."""
    await store.append(NAME, [imported("a")])
    monkeypatch.setattr(store._storage._database, "_busy_s", 0.05)  # type: ignore[attr-defined]  # that of SQLite
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="Somebody else"):
            await store.append(NAME, [imported("b")])
        assert texts(await store.list_messages(NAME)) == ["a"]
        other.execute("ROLLBACK")
    await store.append(NAME, [imported("b")])
    assert texts(await store.list_messages(NAME)) == ["a", "b"]


async def test_removed_messages_leave_the_disk(path: Path, store: SqliteConversationStore) -> None:
    """Remove, retract, clear and delete leave no copy of what was said, in no file."""
    run_id = run_name()

    def is_on_disk(text: bytes) -> bool:
        return any(text in each.read_bytes() for each in path.parent.iterdir())

    [cursor, _] = await store.append(NAME, [imported("secret-one"), imported("stays")])
    await store.append(NAME, messages(run_id, [0]), writer=Writer(run_id, 1))
    written = f'"{run_id}.0"'.encode()
    assert is_on_disk(b"secret-one")
    assert is_on_disk(written)
    await store.remove(NAME, cursor)
    assert not is_on_disk(b"secret-one")
    await store.retract(NAME, Writer(run_id, 1))
    assert not is_on_disk(written)
    assert is_on_disk(b"stays")
    await store.clear(NAME)
    assert not is_on_disk(b"stays")
    await store.append(NAME, [imported("stays")])
    await store.delete(NAME)
    assert not is_on_disk(b"stays")


@pytest.mark.parametrize(
    "conversation_id", ["'; DROP TABLE message; --", "a\x00b", "%", "_", "x" * 5000, "é"]
)
async def test_no_id_means_anything_else(
    store: SqliteConversationStore, conversation_id: str
) -> None:
    """Ids that a client would refuse, too: a store may be used without one."""
    await store.append("other", [imported("y")])
    await store.append(conversation_id, [imported("x")])
    assert texts(await store.list_messages(conversation_id)) == ["x"]
    assert texts(await store.list_messages("other")) == ["y"]
    assert await store.delete(conversation_id) == 1
    assert texts(await store.list_messages("other")) == ["y"]


async def test_ids_differ_in_upper_and_lower_case(store: SqliteConversationStore) -> None:
    """As everywhere else."""
    await store.append("Ada", [imported("x")])
    assert await store.count("ada") == 0


@pytest.mark.parametrize(
    "query",
    [
        "SELECT number FROM message WHERE conversation = 1 ORDER BY number DESC",
        "SELECT number FROM message WHERE conversation = 1 AND number > 5 ORDER BY number",
        "SELECT number FROM message WHERE conversation = 1 AND run_id = 'r' ORDER BY number",
        "SELECT number FROM message WHERE conversation = 1 AND number = 5",
        "SELECT key FROM conversation WHERE id = 'x'",
        "SELECT id FROM conversation WHERE expires_at <= 5",
    ],
)
async def test_nothing_is_scanned_or_sorted(
    path: Path, store: SqliteConversationStore, query: str
) -> None:
    """Every question of the store is answered by an index, so long histories cost no more."""
    plan = [str(row[-1]) for row in ask(path, f"EXPLAIN QUERY PLAN {query}")]
    assert all(step.startswith("SEARCH") and "INDEX" in step for step in plan), plan


async def test_a_fork_does_not_share_connections(
    path: Path, store: SqliteConversationStore
) -> None:
    """A child opens its own, and the parent goes on with its."""
    await store.append(NAME, [imported("parent")])
    database = store._storage._database  # type: ignore[attr-defined]  # that of SQLite
    with database.reading() as connection:
        parents = connection
    database._pid -= 1  # as it is in a child
    with database.reading() as connection:
        assert connection is not parents
    await store.append(NAME, [imported("child")])
    assert parents.execute("SELECT count(*) FROM message").fetchone() == (2,)
    parents.close()


async def test_fences_outlive_the_messages(path: Path, store: SqliteConversationStore) -> None:
    """A conversation without messages keeps its row."""
    run_id = run_name()
    await store.append(NAME, messages(run_id, [0]), writer=Writer(run_id, 5))
    await store.clear(NAME)
    again = SqliteConversationStore(path)
    with pytest.raises(FencedError):
        await again.append(NAME, messages(run_id, [0]), writer=Writer(run_id, 4))
    await again.aclose()
