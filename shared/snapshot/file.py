"""Snapshots as files: ``<snapshot id>.snapshot`` in one folder, for one machine.

A file is a line that says what it is and how long its two pieces are, then the pieces. It is
written under another name, brought to the disk and then named, so that there is never half of one.
"""

import asyncio
import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from shared.byte_seal import Seal
from shared.errors import ConfigurationError, CorruptEntryError, StoreUnavailableError
from shared.snapshot.codec import Packed, SnapshotCodec
from shared.snapshot.identity import check_snapshot_id
from shared.snapshot.listing import passes, readable, unknown
from shared.snapshot.value import Snapshot, SnapshotInfo

_SUFFIX: Final = ".snapshot"
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_NAME: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.snapshot")
_HEADER: Final = re.compile(rb"agents-snapshot 1 ([0-9]{1,12}) ([0-9]{1,15})\n")
_LONGEST_HEADER: Final = 64


class FileSnapshotStore:
    """See `SnapshotStore`. Files are for their owner only, and so is the folder.

    The folder is made if there is none, with the first snapshot. One that others may enter is
    refused. Several processes of the machine may share it.
    """

    is_distributed = False

    def __init__(self, folder: Path, *, seal: Seal | None = None) -> None:
        self._folder = folder
        self._codec = SnapshotCodec(seal)

    async def save(self, snapshot: Snapshot) -> None:
        """Write a file; see `SnapshotStore.save`."""
        name = check_snapshot_id(snapshot.info.id)
        packed = self._codec.pack(snapshot)
        await asyncio.to_thread(self._write, name, packed)

    async def list_snapshots(
        self,
        *,
        agent: str | None = None,
        conversation_id: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[SnapshotInfo]:
        """Read the beginnings of files; see `SnapshotStore.list_snapshots`."""
        end = check_snapshot_id(before) if before is not None else "g"
        return await asyncio.to_thread(self._list, agent, conversation_id, limit, end)

    async def load(self, snapshot_id: str) -> Snapshot:
        """Read a file; see `SnapshotStore.load`."""
        packed = await asyncio.to_thread(self._read, check_snapshot_id(snapshot_id))
        return self._codec.unpack(snapshot_id, packed)

    async def delete(self, snapshot_id: str) -> bool:
        """Remove a file; see `SnapshotStore.delete`."""
        return await asyncio.to_thread(self._delete, check_snapshot_id(snapshot_id))

    def _write(self, snapshot_id: str, packed: Packed) -> None:
        try:
            self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
            self._check_folder()
            draft = self._folder / f".{uuid4().hex}.draft"
            try:
                _write_through(draft, packed)
                draft.replace(self._path(snapshot_id))
            except BaseException:
                with suppress(OSError):
                    draft.unlink()
                raise
            _sync(self._folder)
        except OSError as error:
            raise _unavailable(error) from error

    def _list(
        self, agent: str | None, conversation_id: str | None, limit: int, end: str
    ) -> list[SnapshotInfo]:
        found: list[SnapshotInfo] = []
        for snapshot_id in self._ids(end):
            if len(found) >= limit:
                break
            info = self._read_info(snapshot_id)
            if info is not None and passes(info, agent, conversation_id):
                found.append(info)
        return found

    def _ids(self, end: str) -> Iterator[str]:
        """Ids of what is there, newest first. What is called otherwise is nothing of ours."""
        try:
            self._check_folder()
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unavailable(error) from error
        ids = (match[1] for match in map(_NAME.fullmatch, names) if match is not None)
        yield from sorted((each for each in ids if each < end), reverse=True)

    def _read_info(self, snapshot_id: str) -> SnapshotInfo | None:
        try:
            with self._open(snapshot_id) as file:
                stored = file.read(_lengths(file, snapshot_id)[0])
        except FileNotFoundError:
            return None  # deleted since the folder was listed
        except CorruptEntryError:
            stored = b""  # which is said in the words that all stores have for it
        except OSError as error:
            raise _unavailable(error) from error
        return readable(self._codec, snapshot_id, stored)

    def _read(self, snapshot_id: str) -> Packed:
        try:
            self._check_folder()
            with self._open(snapshot_id) as file:
                info_length, body_length = _lengths(file, snapshot_id)
                packed = Packed(file.read(info_length), file.read(body_length + 1))
        except FileNotFoundError as error:
            raise unknown(snapshot_id) from error
        except OSError as error:
            raise _unavailable(error) from error
        if len(packed.body) != body_length:
            raise CorruptEntryError(f"The file of snapshot {snapshot_id} is not as long as it was.")
        return packed

    def _delete(self, snapshot_id: str) -> bool:
        try:
            self._check_folder()
            self._path(snapshot_id).unlink()
            _sync(self._folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unavailable(error) from error
        return True

    def _path(self, snapshot_id: str) -> Path:
        return self._folder / f"{snapshot_id}{_SUFFIX}"

    def _open(self, snapshot_id: str) -> BinaryIO:
        """The file itself: a link in its place could lead anywhere."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.fdopen(os.open(self._path(snapshot_id), flags), "rb")
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR):
                raise
            raise _no_file(snapshot_id) from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise _no_file(snapshot_id)
        return file

    def _check_folder(self) -> None:
        """Refuse a folder that others could read or put files into.

        Raises:
            ConfigurationError: It is one, or no folder.
            FileNotFoundError: There is none.
        """
        mode = self._folder.stat().st_mode
        if not stat.S_ISDIR(mode):
            raise ConfigurationError(f"{self._folder} is no folder; name another for snapshots.")
        if stat.S_IMODE(mode) & 0o077:
            raise ConfigurationError(
                f"Others may enter the folder of snapshots, {self._folder}. Make it yours alone: "
                f"chmod 700 {self._folder}"
            )


def _write_through(draft: Path, packed: Packed) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, _FILE_MODE), "wb") as file:
        file.write(b"agents-snapshot 1 %d %d\n" % (len(packed.info), len(packed.body)))
        file.write(packed.info)
        file.write(packed.body)
        file.flush()
        os.fsync(file.fileno())


def _lengths(file: BinaryIO, snapshot_id: str) -> tuple[int, int]:
    header = _HEADER.fullmatch(file.readline(_LONGEST_HEADER))
    if header is None:
        raise CorruptEntryError(f"The file of snapshot {snapshot_id} does not begin like one.")
    return int(header[1]), int(header[2])


def _sync(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_file(snapshot_id: str) -> CorruptEntryError:
    return CorruptEntryError(f"In the place of snapshot {snapshot_id} there is no plain file.")


def _unavailable(error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"The folder of snapshots cannot be used: {error}.")
