"""Conversations in files of JSON lines, one for each, in a folder of this machine."""

from pathlib import Path

from shared.conversation.local.file_storage import FileStorage
from shared.conversation.local.path import folder_of
from shared.conversation.local.store import LocalConversationStore
from shared.memory.clock import Clock, utc_now
from shared.settings import Settings


class FileConversationStore(LocalConversationStore):
    """See `LocalConversationStore`. For people who want to read histories with their own eyes.

    `folder` is made if it is not there; its parent has to be. Files are 0600, folders 0700. To
    append and to read the newest messages costs the same however long a conversation is. To remove
    some of its messages costs a copy of the rest, since nothing that was removed stays on the disk.
    Not for a folder that machines share over a network.

    Raises:
        ConfigurationError: The folder cannot be made or used.
    """

    def __init__(self, folder: str | Path, *, clock: Clock = utc_now) -> None:
        super().__init__(FileStorage(Path(folder)), clock=clock)


def open_url(url: str, _: Settings) -> FileConversationStore:
    """The store of ``file:///absolute/folder`` or ``file:relative/folder``.

    Raises:
        ConfigurationError: It names no folder, or one that cannot be made or used.
    """
    return FileConversationStore(folder_of(url))
