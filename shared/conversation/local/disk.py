"""Files that only their owner reads, and what it takes until something is really on the disk."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.errors import ConfigurationError, StoreUnavailableError

_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
"""On macOS, where fsync leaves it to the disk when it writes."""


def make_folder(path: Path) -> None:
    """Make a folder that only its owner can enter, if it is not there. Its parent has to be.

    Raises:
        ConfigurationError: It cannot be made, or is no folder, or cannot be written to.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no folder {path.parent}, in which {path.name} would be made; make it, or "
            "correct the path."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be used as a folder for conversations ({error.strerror}); name another "
            "one, or change its rights."
        ) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"This user may not read and write in {path}; change its rights, or name another one."
        )


def write_all(fd: int, content: bytes, offset: int) -> None:
    """Write all of it; the system may take less at once."""
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def make_durable(place: int | Path) -> None:
    """Return when an open file, or the names in a folder, would survive a power cut."""
    if isinstance(place, int):
        _sync(place)
        return
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)


@contextmanager
def translated_errors(place: Path) -> Iterator[None]:
    """Turn what the system says about files into this project's errors."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(
            f"The conversations in {place} cannot be reached ({error.strerror or error}). Check "
            "the disk, its space and the rights of this user; trying again is safe."
        ) from error


def _sync(fd: int) -> None:
    if _FULL_SYNC is not None:
        fcntl.fcntl(fd, _FULL_SYNC)
    else:
        os.fdatasync(fd)
