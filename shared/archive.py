"""The archive: another store of conversations, by URL."""

from urllib.parse import urlsplit

from shared.backend import Archive
from shared.conversation.url import conversation_from_url
from shared.sealing.backend import seal_conversations
from shared.settings import Settings


def open_archive(settings: Settings) -> Archive | None:
    """The archive of the settings; None where they name none. Whoever gets it closes it.

    Raises:
        ConfigurationError: No store can be opened by this URL.
    """
    if settings.archive_url is None:
        return None
    url = settings.archive_url.get_secret_value()
    store = conversation_from_url(url, settings)
    return Archive(archive_name(url), seal_conversations(store, settings))


def archive_name(url: str) -> str:
    """What records say about an archive: its URL without user, password and options."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    place = f"{host}:{parts.port}" if parts.port is not None else host
    return f"{parts.scheme}://{place}{parts.path}"
