"""Snapshots as files: for their owner only, whole or not there, and nothing else beside them."""

import asyncio
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import ConfigurationError, CorruptEntryError, StoreUnavailableError
from shared.snapshot.file import FileSnapshotStore
from shared.snapshot.identity import new_snapshot_id
from tests.contract.snapshot import snapshot


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o022, 0o000, 0o077, 0o177])
async def test_files_and_folder_are_for_their_owner_only(tmp_path: Path, mask: int) -> None:
    """Whatever the process masks out of the modes of new files."""
    folder = tmp_path / "a" / "snapshots"
    (tmp_path / "a").mkdir()
    before = os.umask(mask & ~0o100)
    try:
        saved = snapshot()
        await FileSnapshotStore(folder).save(saved)
    finally:
        os.umask(before)
    assert mode_of(folder) == 0o700
    assert [mode_of(file) for file in folder.iterdir()] == [0o600]
    assert [file.name for file in folder.iterdir()] == [f"{saved.info.id}.snapshot"]


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o720, 0o777])
async def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    """Nothing is written into it and nothing read from it; the error says what to do."""
    folder = tmp_path / "snapshots"
    folder.mkdir()
    folder.chmod(mode)
    store, name = FileSnapshotStore(folder), new_snapshot_id("web:ada")
    for call in (store.save(snapshot()), store.list_snapshots(), store.load(name)):
        with pytest.raises(ConfigurationError, match="chmod 700"):
            await call
    assert list(folder.iterdir()) == []


async def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """And one that is not there has no snapshots, and is not made to find that out."""
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises((ConfigurationError, StoreUnavailableError)):
        await FileSnapshotStore(file).save(snapshot())
    assert await FileSnapshotStore(tmp_path / "none").list_snapshots() == []
    assert not (tmp_path / "none").exists()


async def test_links_pipes_and_folders_in_the_place_of_a_file_are_damage(tmp_path: Path) -> None:
    """A link could lead anywhere, a pipe would be waited for; the others are read."""
    folder = tmp_path / "snapshots"
    store = FileSnapshotStore(folder)
    whole = snapshot()
    await store.save(whole)
    strange = [new_snapshot_id("web:ada") for _ in range(3)]
    (folder / f"{strange[0]}.snapshot").symlink_to(folder / f"{whole.info.id}.snapshot")
    os.mkfifo(folder / f"{strange[1]}.snapshot")
    (folder / f"{strange[2]}.snapshot").mkdir()
    assert await store.list_snapshots() == [whole.info]
    for name in strange:
        with pytest.raises(CorruptEntryError, match="no plain file"):
            await store.load(name)


async def test_what_is_called_otherwise_is_not_looked_at(tmp_path: Path) -> None:
    """Files of somebody else, and names that are not canonical."""
    folder = tmp_path / "snapshots"
    store = FileSnapshotStore(folder)
    saved = snapshot()
    await store.save(saved)
    content = (folder / f"{saved.info.id}.snapshot").read_bytes()
    other = new_snapshot_id("web:ada")
    for name in (f"{other.upper()}.snapshot", other, f"{other}.snapshot~", f".{other}.snapshot"):
        (folder / name).write_bytes(content)
    assert await store.list_snapshots() == [saved.info]


@pytest.mark.parametrize("length", [0, 10, 60, 500, -1])
async def test_a_file_that_was_cut_is_damage(tmp_path: Path, length: int) -> None:
    """In its first line, its info, its body, or by one byte; also one that grew."""
    folder = tmp_path / "snapshots"
    store = FileSnapshotStore(folder)
    saved = snapshot()
    await store.save(saved)
    file = folder / f"{saved.info.id}.snapshot"
    content = file.read_bytes()
    for changed in (content[:length], content + b"x"):
        file.write_bytes(changed)
        with pytest.raises(CorruptEntryError):
            await store.load(saved.info.id)


async def test_a_file_of_another_snapshot_is_damage(tmp_path: Path) -> None:
    """Renaming one does not make it another."""
    folder = tmp_path / "snapshots"
    store = FileSnapshotStore(folder)
    saved, other = snapshot(), new_snapshot_id("web:ada")
    await store.save(saved)
    (folder / f"{saved.info.id}.snapshot").rename(folder / f"{other}.snapshot")
    with pytest.raises(CorruptEntryError, match="another one"):
        await store.load(other)
    assert await store.list_snapshots() == []


async def test_a_disk_that_is_full_costs_no_snapshot(tmp_path: Path) -> None:
    """The error says so; what was there is there, and nothing else is."""
    folder = tmp_path / "snapshots"
    store = FileSnapshotStore(folder)
    saved = snapshot()
    await store.save(saved)
    larger = snapshot("web:ada", "clerk", "long " * 50_000, id=saved.info.id)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        for again in (larger, snapshot("web:ada", "clerk", "long " * 50_000)):
            with pytest.raises(StoreUnavailableError):
                await store.save(again)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert await store.load(saved.info.id) == saved
    assert [file.name for file in folder.iterdir()] == [f"{saved.info.id}.snapshot"]


SAVES_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from shared.snapshot.file import FileSnapshotStore
from tests.contract.snapshot import snapshot

async def main():
    store = FileSnapshotStore(Path(sys.argv[1]))
    while True:
        saved = snapshot("web:ada", "clerk", *["long " * 5_000] * 20)
        await store.save(saved)
        print(saved.info.id, flush=True)

asyncio.run(main())
"""


def test_who_is_killed_while_saving_leaves_whole_snapshots_only(tmp_path: Path) -> None:
    """Killed again and again: all that is listed can be loaded, all that was said is there."""
    folder, said = tmp_path / "snapshots", set()
    for round_number in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVES_FOR_EVER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(3 + round_number):
            said.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        said |= {line for line in rest.splitlines(keepends=False) if len(line) == 36}

    async def look() -> None:
        store = FileSnapshotStore(folder)
        listed = {info.id for info in await store.list_snapshots(limit=1000)}
        assert said <= listed
        for name in listed:
            assert (await store.load(name)).info.id == name

    asyncio.run(look())
