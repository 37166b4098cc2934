"""Conversations in one SQLite file of this machine."""

from pathlib import Path

from shared.conversation.local.path import database_of
from shared.conversation.local.sqlite_storage import SqliteStorage
from shared.conversation.local.store import LocalConversationStore
from shared.memory.clock import Clock, utc_now
from shared.settings import Settings


class SqliteConversationStore(LocalConversationStore):
    """See `LocalConversationStore`. The place for histories that stay on one machine.

    `path` is made if it is not there, 0600; its folder has to be. An older schema is brought up to
    date. All conversations share one writer at a time, which takes as long as the disk's fsync.
    What was removed is overwritten, and leaves the log of writes as soon as nobody is reading.
    Not for a file that machines share over a network.

    Raises:
        ConfigurationError: The file cannot be made or used, is another program's or a newer one's.
    """

    def __init__(self, path: str | Path, *, clock: Clock = utc_now) -> None:
        super().__init__(SqliteStorage(Path(path)), clock=clock)


def open_url(url: str, _: Settings) -> SqliteConversationStore:
    """The store of ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

    Raises:
        ConfigurationError: It names no file, or one that cannot be made or used.
    """
    return SqliteConversationStore(database_of(url))
