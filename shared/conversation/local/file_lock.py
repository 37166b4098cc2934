"""Locks among threads and processes of one machine, over a fixed number of files.

A lock file says besides which file is being written under it, so that whoever comes after somebody
who was killed in the middle makes that file durable first; and its time of change is moved with
every write, so that a look at it is enough to know that nothing has changed.
"""

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.conversation.local.disk import write_all
from shared.errors import StoreUnavailableError

LOCKS: Final = 256
"""Conversations that share one wait for each other; this many rarely do."""
LOCK_WAIT_S: Final = 5.0
"""How long who writes may be waited for. It takes milliseconds, unless the process stands still."""

_PAUSE_S: Final = 0.001


class HeldLock:
    """A lock, while it is held."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def note(self) -> Path | None:
        """The file that was being written when whoever held the lock before was killed, if so."""
        noted = os.pread(self._fd, 4096, 0).strip(b"\0")
        return Path(os.fsdecode(noted)) if noted else None

    @contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """Note that this file is being written. The note stays if that is interrupted."""
        write_all(self._fd, os.fsencode(path), 0)
        yield
        self.forget_note()
        # Not the present time of the file system, which moves in steps of milliseconds.
        now = time.time_ns()
        os.utime(self._fd, ns=(now, now))

    def forget_note(self) -> None:
        """The file that was noted is durable."""
        os.ftruncate(self._fd, 0)


class FileLocks:
    """A folder of locks. Nobody ever removes one, or two could hold the same."""

    def __init__(self, folder: Path, *, wait_s: float = LOCK_WAIT_S) -> None:
        self._folder = folder
        self._wait_s = wait_s

    @contextmanager
    def hold(self, number: int) -> Iterator[HeldLock]:
        """Hold a lock (0 to `LOCKS` - 1), alone among all threads and processes.

        Raises:
            StoreUnavailableError: Somebody else held it for all of `wait_s`.
        """
        fd = os.open(self._path(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for(fd)
            yield HeldLock(fd)
        finally:
            os.close(fd)  # and with it the lock

    def changed_at(self, number: int) -> int:
        """When something was last written under a lock; 0 if never. Differs with every write."""
        try:
            return self._path(number).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _wait_for(self, fd: int) -> None:
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                # By the open file and not by the process, so that it holds between threads as well.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        f"Another process has been writing for {self._wait_s:g} s; find out which "
                        f"one stands still while it holds a lock in {self._folder}. Trying again "
                        "is safe."
                    ) from None
                time.sleep(_PAUSE_S * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            else:
                return

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:02x}"
