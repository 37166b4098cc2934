"""Paths out of URLs, where a slash more or less makes another one."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from shared.errors import ConfigurationError


def folder_of(url: str) -> Path:
    """The folder of ``file:///absolute/folder`` or ``file:relative/folder``.

    Raises:
        ConfigurationError: It names a host, none, or more than a folder.
    """
    host, path = _parts(url, "file")
    if host not in ("", "localhost"):
        raise ConfigurationError(
            "A file: URL with two slashes begins with the name of a host. Write file:chats for a "
            "path below the working directory, or file:///var/lib/chats for an absolute one."
        )
    if path.strip("/.") == "":
        raise ConfigurationError(
            "The file: URL names no folder of its own for conversations; write "
            "file:///var/lib/chats, or file:chats for one below the working directory."
        )
    return Path(path)


def database_of(url: str) -> Path:
    """The file of ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

    Raises:
        ConfigurationError: It names a host, none, memory, or more than a file.
    """
    host, path = _parts(url, "sqlite")
    if host or not path.startswith("/"):
        raise ConfigurationError(
            "A sqlite: URL has three slashes before a path below the working directory "
            "(sqlite:///chat.db), and four before an absolute one (sqlite:////var/lib/chat.db)."
        )
    name = path[1:]
    if name.startswith(":memory:"):
        raise ConfigurationError(
            "Conversations in memory are memory://; sqlite: names a file (sqlite:///chat.db)."
        )
    if name.strip("/.") == "" or name.endswith("/"):
        raise ConfigurationError("The sqlite: URL names no file; write sqlite:///chat.db.")
    _check_not_meant_absolute(Path(name))
    return Path(name)


def _check_not_meant_absolute(path: Path) -> None:
    """Tell a path that lacks its fourth slash from one whose folder is missing."""
    if path.is_absolute() or path.parent.is_dir():
        return
    meant = Path("/") / path
    hint = (
        f" If {meant} is meant, write four slashes: sqlite:///{meant}."
        if (meant.parent.is_dir())
        else ""
    )
    raise ConfigurationError(
        f"There is no folder {path.parent.absolute()}, where {path.name} would be made. The path "
        f"of a sqlite: URL with three slashes begins at the working directory.{hint}"
    )


def _parts(url: str, scheme: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(
            f"The {scheme}: URL cannot be read; check its brackets."
        ) from error
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"A {scheme}: URL takes nothing behind its path. If '?' or '#' is a part of the path, "
            "write %3F or %23."
        )
    path = unquote(parts.path)
    if "\0" in path:
        raise ConfigurationError(f"The path of the {scheme}: URL holds a NUL character; remove it.")
    return parts.netloc, path
