"""Conversations in files: what is on the disk, and what becomes of it when that goes wrong."""

import errno
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.conversation.file import FileConversationStore
from shared.conversation.local import disk, file_reading
from shared.conversation.local.file_storage import FileStorage, file_name
from shared.conversation.protocol import DELETED_FENCE_S, Writer
from shared.errors import ConfigurationError, CorruptEntryError, FencedError, StoreUnavailableError
from shared.message import Message
from shared.testing.conversation.value import imported, messages, run_name, texts

NAME = "support:ada"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chats"


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[FileConversationStore]:
    store = FileConversationStore(folder)
    yield store
    await store.aclose()


def file_of(folder: Path, conversation_id: str = NAME) -> Path:
    return folder / "conversations" / file_name(conversation_id)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_files_are_for_their_owner_alone(folder: Path, store: FileConversationStore) -> None:
    """0600 in folders 0700, whatever the process's umask allows."""
    former = os.umask(0)
    try:
        await store.append(NAME, [imported("x")])
        await store.append(f"~{run_name()}", [imported("x")])
        await store.delete(NAME)
        await FileConversationStore(folder.parent / "other").append(NAME, [imported("x")])
    finally:
        os.umask(former)
    places = [folder, *folder.rglob("*"), *(folder.parent / "other").rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in places}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


@pytest.mark.parametrize(
    "conversation_id",
    [
        "../../escaped",
        "/etc/passwd",
        "a/b",
        "a\x00b",
        "CON",
        ".",
        "..",
        "",
        "x" * 5000,
        "é\ud800",
        "%2e",
    ],
)
async def test_no_id_leads_out_of_the_folder(
    folder: Path, store: FileConversationStore, conversation_id: str
) -> None:
    """Ids that a client would refuse, too: a store may be used without one."""
    await store.append(conversation_id, [imported("x")])
    assert texts(await store.list_messages(conversation_id)) == ["x"]
    outside = {path for path in folder.parent.rglob("*") if folder not in (path, *path.parents)}
    assert outside == set()
    [path] = (folder / "conversations").iterdir()
    assert len(path.name) < 120
    assert path.name == path.name.lower()


async def test_ids_that_look_alike_are_apart(store: FileConversationStore) -> None:
    """Upper and lower case, and what readable names replace, on any file system."""
    ids = ["Ada", "ada", "ADA", "a:da", "a_da", "a.da", "x" * 200, "x" * 199 + "y"]
    for number, conversation_id in enumerate(ids):
        await store.append(conversation_id, [imported(str(number))])
    assert [texts(await store.list_messages(each)) for each in ids] == [
        [str(number)] for number in range(len(ids))
    ]
    assert len({file_name(each).lower() for each in ids}) == len(ids)
    assert sorted([each async for each in store.conversation_ids()]) == sorted(ids)


@pytest.mark.parametrize("length", range(1, 400, 7))
async def test_a_batch_that_was_cut_off_is_not_there(folder: Path, length: int) -> None:
    """Of a write that stopped after any number of bytes nothing is read; the next one is whole."""
    first = FileConversationStore(folder)
    await first.append(NAME, [imported("a")])
    path = file_of(folder)
    before = path.read_bytes()
    await first.append(NAME, [imported("b"), imported("c")])
    await first.aclose()
    after = path.read_bytes()
    path.write_bytes(after[: min(len(before) + length, len(after) - 1)])

    second = FileConversationStore(folder)
    assert texts(await second.list_messages(NAME)) == ["a"]
    assert await second.count(NAME) == 1
    await second.append(NAME, [imported("d")])
    assert texts(await second.list_messages(NAME)) == ["a", "d"]
    assert texts(await second.list_messages(NAME, limit=1)) == ["d"]
    await second.aclose()


@pytest.mark.parametrize("hole", [0.0, 0.3, 0.6])
async def test_a_batch_of_which_the_disk_lost_a_piece_is_not_there(
    folder: Path, hole: float
) -> None:
    """A power cut may keep the end of a write and lose what is in front of it."""
    first = FileConversationStore(folder)
    await first.append(NAME, [imported("a")])
    path = file_of(folder)
    start = path.stat().st_size
    await first.append(NAME, [imported("b" * 5000), imported("c" * 5000), imported("d")])
    await first.aclose()
    with path.open("r+b") as file:
        file.seek(start + int(hole * 10_000))
        file.write(bytes(512))

    second = FileConversationStore(folder)
    assert texts(await second.list_messages(NAME)) == ["a"]
    await second.append(NAME, [imported("e")])
    assert texts(await second.list_messages(NAME)) == ["a", "e"]
    await second.aclose()


async def test_damage_in_the_middle_costs_what_is_damaged(
    folder: Path, store: FileConversationStore
) -> None:
    """Batches with others behind them were durable: there, only the damaged line is lost."""
    run_id = run_name()
    await store.append(NAME, [imported("a"), imported("b"), imported("c")])
    await store.append(NAME, messages(run_id, range(3)), writer=Writer(run_id, 1))
    await store.append(NAME, [imported("d")])
    path = file_of(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = [number for number, line in enumerate(lines) if b'"b"' in line or b'.1"' in line]
    for number in damaged:
        lines[number] = b"\xff" * (len(lines[number]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    assert len(damaged) == 2

    expected = ["a", "c", f"{run_id}.0", f"{run_id}.2", "d"]
    assert texts(await store.list_messages(NAME)) == expected
    assert texts(await store.list_messages(NAME, limit=4)) == expected[1:]
    assert await store.count(NAME) == 7
    claim = await store.claim(NAME, Writer(run_id, 2), limit=10)
    assert texts(claim.own) == [f"{run_id}.0", f"{run_id}.2"]
    assert claim.unreadable == 1, "the run cannot go on as if it had not said that"
    await store.append(NAME, messages(run_id, [3]), writer=Writer(run_id, 2))
    assert await store.retract(NAME, Writer(run_id, 2)) == 4
    assert texts(await store.list_messages(NAME)) == ["a", "c", "d"]


async def test_a_line_that_was_edited_by_hand_stays(
    folder: Path, store: FileConversationStore
) -> None:
    """Also in the last batch: its checksum is another one, but nothing of it is missing."""
    await store.append(NAME, [imported("tea"), imported("cake")])
    path = file_of(folder)
    path.write_bytes(path.read_bytes().replace(b'"tea"', b'"rum"'))
    assert texts(await store.list_messages(NAME)) == ["rum", "cake"]


async def test_a_file_that_was_copied_is_not_taken_for_another_conversation(
    folder: Path, store: FileConversationStore
) -> None:
    """Its first line says whose it is."""
    await store.append(NAME, [imported("x")])
    file_of(folder, "other").write_bytes(file_of(folder).read_bytes())
    with pytest.raises(CorruptEntryError, match="another conversation"):
        await store.list_messages("other")


async def test_a_file_of_a_newer_release_is_refused(
    folder: Path, store: FileConversationStore
) -> None:
    """Nothing is guessed at, and nothing written behind it."""
    await store.append(NAME, [imported("x")])
    path = file_of(folder)
    path.write_bytes(path.read_bytes().replace(b'"version":1,"made"', b'"version":2,"made"'))
    with pytest.raises(ConfigurationError, match="update"):
        await store.list_messages(NAME)
    with pytest.raises(ConfigurationError, match="update"):
        await store.append(NAME, [imported("y")])


async def test_removed_messages_leave_the_disk(folder: Path, store: FileConversationStore) -> None:
    """Remove, retract, clear and delete leave no copy of what was said, in no file."""
    run_id = run_name()
    [cursor, _] = await store.append(NAME, [imported("secret-one"), imported("stays")])
    await store.append(
        NAME,
        [Message(**dict(messages(run_id, [0])[0]) | {"content": "secret-two"})],
        writer=Writer(run_id, 1),
    )
    assert b"secret-one" in all_bytes(folder)
    await store.remove(NAME, cursor)
    assert b"secret-one" not in all_bytes(folder)
    await store.retract(NAME, Writer(run_id, 1))
    assert b"secret-two" not in all_bytes(folder)
    assert b"stays" in all_bytes(folder)
    await store.clear(NAME)
    assert b"stays" not in all_bytes(folder)
    await store.append(NAME, [imported("stays")])
    await store.delete(NAME)
    assert b"stays" not in all_bytes(folder)


async def test_what_has_had_its_time_leaves_the_disk(folder: Path) -> None:
    """Histories of runs that are alone, and the fences of what was deleted; others stay."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    alone, run_id = f"~{run_name()}", run_name()
    store = FileConversationStore(folder, clock=lambda: now)
    await store.append(alone, [imported("x")])
    await store.expire(alone, 60)
    await store.expire(alone, DELETED_FENCE_S + 60)
    await store.append(NAME, messages(run_id, [0]), writer=Writer(run_id, 5))
    await store.delete(NAME)
    await store.append("kept", [imported("x")])
    await store.aclose()

    async def is_left(later_s: float) -> set[str]:
        later = FileConversationStore(folder, clock=lambda: now + timedelta(seconds=later_s))
        await later.aclose()
        return {
            path.parent.name for path in folder.rglob("*.jsonl") if path.name != file_name("kept")
        }

    assert await is_left(120) == {"alone", "conversations", "deadlines"}
    assert await is_left(DELETED_FENCE_S + 1) == {"alone", "deadlines"}
    assert await is_left(DELETED_FENCE_S + 61) == set()
    assert file_of(folder, "kept").exists()


async def test_a_deleted_conversation_that_began_anew_is_kept(folder: Path) -> None:
    """The deadline of the fence is over with it."""
    now = datetime(2030, 1, 1, tzinfo=UTC)
    run_id = run_name()
    store = FileConversationStore(folder, clock=lambda: now)
    await store.append(NAME, messages(run_id, [0]), writer=Writer(run_id, 5))
    await store.delete(NAME)
    await store.append(NAME, [imported("new")])
    await store.aclose()
    later = FileConversationStore(
        folder, clock=lambda: now + timedelta(seconds=2 * DELETED_FENCE_S)
    )
    assert texts(await later.list_messages(NAME)) == ["new"]
    with pytest.raises(FencedError):
        await later.append(NAME, messages(run_id, [0]), writer=Writer(run_id, 5))
    await later.aclose()


async def test_a_disk_that_does_not_keep_is_no_answer(
    store: FileConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append returns when its messages are on the disk; where they are not, it raises."""
    await store.append(NAME, [imported("a")])

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, "_sync", fail)
    with pytest.raises(StoreUnavailableError, match="disk"):
        await store.append(NAME, [imported("b")])
    with pytest.raises(StoreUnavailableError, match="disk"):
        await store.append("new", [imported("b")])
    monkeypatch.undo()
    assert texts(await store.list_messages(NAME, limit=1)) in (["a"], ["b"])
    await store.append(NAME, [imported("c")])
    assert texts(await store.list_messages(NAME, limit=1)) == ["c"]


async def test_what_a_killed_process_left_is_durable_before_it_is_built_upon(
    folder: Path, store: FileConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed between writing and syncing; who finds its messages makes them durable."""
    run_id = run_name()
    await store.append(NAME, messages(run_id, [0]), writer=Writer(run_id, 1))

    class Killed(BaseException):
        pass

    def die(_: int) -> None:
        raise Killed

    monkeypatch.setattr(disk, "_sync", die)
    with pytest.raises(Killed):
        await store.append(NAME, messages(run_id, [1]), writer=Writer(run_id, 1))
    synced: list[int] = []
    monkeypatch.setattr(disk, "_sync", synced.append)
    other = FileConversationStore(folder)
    # Repeating stores nothing, and yet it may only be answered when nothing can be lost any more.
    await other.append(NAME, messages(run_id, [1]), writer=Writer(run_id, 1))
    assert len(synced) == 1
    await other.append(NAME, messages(run_id, [1]), writer=Writer(run_id, 1))
    assert len(synced) == 1
    await other.aclose()


async def test_a_full_disk_leaves_what_was_there(
    store: FileConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a batch is taken off again, and the error says what to look at."""
    await store.append(NAME, [imported("a")])
    write = os.pwrite

    def write_a_little(fd: int, content: memoryview, offset: int) -> int:
        if len(content) < 400:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, content[:100], offset)

    monkeypatch.setattr("shared.conversation.local.disk.os.pwrite", write_a_little)
    with pytest.raises(StoreUnavailableError, match="No space left"):
        await store.append(NAME, [imported("b" * 500)])
    monkeypatch.undo()
    assert texts(await store.list_messages(NAME)) == ["a"]
    await store.append(NAME, [imported("c")])
    assert texts(await store.list_messages(NAME)) == ["a", "c"]


async def test_who_stands_still_with_the_lock_is_not_waited_for_for_ever(
    folder: Path, store: FileConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers get an error in bounded time; readers are not concerned."""
    await store.append(NAME, [imported("a")])
    monkeypatch.setattr(store._storage._locks, "_wait_s", 0.05)  # type: ignore[attr-defined]  # that of files
    with FileStorage(folder).writing(NAME):
        with pytest.raises(StoreUnavailableError, match="Another process"):
            await store.append(NAME, [imported("b")])
        assert texts(await store.list_messages(NAME)) == ["a"]
    await store.append(NAME, [imported("b")])


async def test_appends_and_newest_messages_cost_the_same_in_a_long_conversation(
    store: FileConversationStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in bytes that are read, since time depends on who else is at work."""
    runs = [run_name() for _ in range(2000)]
    history = [each for run_id in runs for each in messages(run_id, range(5))]
    for start in range(0, len(history), 1000):
        await store.append(NAME, history[start : start + 1000])
    size = file_of(folder).stat().st_size
    await store.claim(NAME, Writer(run_name(), 1), limit=5)  # learns where each run is, once

    read: list[int] = []
    pread = os.pread

    def count(fd: int, length: int, offset: int) -> bytes:
        data = pread(fd, length, offset)
        read.append(len(data))
        return data

    monkeypatch.setattr("shared.conversation.local.file_reading.os.pread", count)
    run_id, token = run_name(), 2
    writer = Writer(run_id, token)
    await store.claim(NAME, writer, limit=19)
    await store.append(NAME, messages(run_id, [0]), writer=writer)
    await store.append(NAME, [imported("x")])
    assert len(await store.list_messages(NAME, limit=20)) == 20
    [last] = await store.list_messages(NAME, limit=1)
    assert await store.list_messages(NAME, after=last.cursor) == []
    assert await store.has_message(NAME, last.cursor or "")
    assert await store.count(NAME) == len(history) + 2
    assert size > 2_000_000
    assert sum(read) < size / 4, "eight calls together"


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1000, 1_000_000])
def test_lines_are_found_in_both_directions_whatever_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Each line once, where it begins; what stands behind the last line end is one as well."""
    monkeypatch.setattr(file_reading, "_SMALL", chunk)
    lines = [b"first", b"a", b"b" * 100, b"c" * 7, b"torn"]
    path = tmp_path / "lines"
    path.write_bytes(b"\n".join(lines))
    places = [(sum(len(line) + 1 for line in lines[:n]), line) for n, line in enumerate(lines)]
    fd = os.open(path, os.O_RDONLY)
    try:
        size = path.stat().st_size
        assert list(file_reading.lines_forward(fd, 0, size)) == places
        assert list(file_reading.lines_backward(fd, 0, size)) == places[::-1]
        assert list(file_reading.lines_backward(fd, 6, size)) == places[:0:-1]
        assert list(file_reading.lines_backward(fd, 6, size - 4)) == places[-2:0:-1]
    finally:
        os.close(fd)


def test_a_folder_that_cannot_be_used_is_a_named_error(tmp_path: Path) -> None:
    """When the store is built, with what to change."""
    with pytest.raises(ConfigurationError, match="There is no folder"):
        FileConversationStore(tmp_path / "missing" / "chats")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="cannot be used as a folder"):
        FileConversationStore(tmp_path / "file")
