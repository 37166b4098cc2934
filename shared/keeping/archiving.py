"""Archiving: moving a conversation's messages to another store."""

from collections.abc import Awaitable, Callable

from shared.backend import Backend
from shared.conversation.protocol import ConversationStore
from shared.directory.record import ConversationRecord, Work
from shared.keeping.copying import copy_whole
from shared.keeping.reading import opened_archive

Copy = Callable[[ConversationStore, ConversationStore, str], Awaitable[object]]
"""Makes a conversation in the second store equal to that in the first, and checks that it is."""


async def archive(
    backend: Backend,
    conversation_id: str,
    *,
    idle_s: float | None = None,
    copy: Copy = copy_whole,
) -> ConversationRecord:
    """Close a conversation and move its messages to the archive, from where they are read.

    Record, totals and runs stay where they are. The messages are deleted here once they have been
    read again there. Archiving once more does nothing. With `idle_s`, only if nothing has happened
    in it for so long.

    Raises:
        UnknownConversationError: It is not managed.
        ConversationBusyError: A run in it has not ended, or something has happened within `idle_s`.
        ConfigurationError: This process has no archive, or not the one that has the messages.
        CorruptEntryError: Some messages cannot be copied; they stay here, and the record says that
            it is being archived.
        StoreUnavailableError: No answer; repeating it is safe, and `tidy` does.
    """
    directory = backend.opened_directory()
    record = await directory.get(conversation_id)
    target = opened_archive(backend, record.archived)
    if record.archived is not None and record.work is None:
        return record
    await directory.begin(conversation_id, Work.ARCHIVE, idle_s=idle_s)
    if await backend.conversations.count(conversation_id):
        await copy(backend.conversations, target.conversations, conversation_id)
        await backend.conversations.delete(conversation_id)
    # Else they were moved before, by who was cut off here.
    return await directory.end_archiving(conversation_id, target.name)
