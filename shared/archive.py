"""The archive: another store of conversations, by URL."""

from importlib import import_module
from urllib.parse import urlsplit

from shared.backend import Archive
from shared.errors import ConfigurationError
from shared.settings import Settings


def open_archive(settings: Settings) -> Archive | None:
    """The archive of the settings; None where they name none. Whoever gets it closes it.

    Raises:
        ConfigurationError: No store can be opened by this URL.
    """
    if settings.archive_url is None:
        return None
    url = settings.archive_url.get_secret_value()
    try:
        opening = import_module("shared.conversation.url")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "AGENTS_ARCHIVE_URL is set, and this release opens no conversations by URL; unset it, "
            "or pass a backend with an archive (Backend.archive)."
        ) from error
    return Archive(archive_name(url), opening.conversation_from_url(url, settings))


def archive_name(url: str) -> str:
    """What records say about an archive: its URL without user, password and options."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    place = f"{host}:{parts.port}" if parts.port is not None else host
    return f"{parts.scheme}://{place}{parts.path}"
