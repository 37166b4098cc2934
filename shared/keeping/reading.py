"""Reading: records with the number of their messages, and where these are."""

import asyncio
from collections.abc import Iterable
from typing import Any

from shared.backend import Archive, Backend
from shared.conversation.protocol import ConversationStore
from shared.directory.record import ConversationRecord, Work
from shared.directory.session import is_managed_id
from shared.errors import ConfigurationError, UnknownConversationError
from shared.message import Message


async def find_record(backend: Backend, conversation_id: str) -> ConversationRecord | None:
    """The record of a conversation; None for one that is not managed."""
    if backend.directory is None or not is_managed_id(conversation_id):
        return None
    try:
        return await backend.directory.get(conversation_id)
    except UnknownConversationError:
        return None


async def counted(
    backend: Backend, records: Iterable[ConversationRecord]
) -> list[ConversationRecord]:
    """The records with the number of messages that are stored now, wherever they are.

    Where an archive is named that this process does not have, it is 0.
    """
    return list(await asyncio.gather(*(_counted(backend, record) for record in records)))


async def store_of(backend: Backend, record: ConversationRecord) -> ConversationStore:
    """The store that has a conversation's messages.

    Raises:
        ConfigurationError: They are in an archive that this process does not have.
    """
    if record.archived is not None:
        return opened_archive(backend, record.archived).conversations
    if record.work is Work.ARCHIVE and not await backend.conversations.count(record.id):
        return opened_archive(backend).conversations  # moved, and not noted yet
    return backend.conversations


async def read_history(backend: Backend, conversation_id: str, **part: Any) -> list[Message]:
    """A part of a conversation as `ConversationStore.list_messages` has it, archived or not.

    Only where nothing is found here, it is asked whether there is an archive to look into.

    Raises:
        ConfigurationError: They are in an archive that this process does not have.
    """
    found = await backend.conversations.list_messages(conversation_id, **part)
    if found or backend.directory is None or not is_managed_id(conversation_id):
        return found
    record = await find_record(backend, conversation_id)
    if record is None or (record.archived is None and record.work is None):
        return found
    store = await store_of(backend, record)
    if store is backend.conversations:
        return found
    return await store.list_messages(conversation_id, **part)


def opened_archive(backend: Backend, name: str | None = None) -> Archive:
    """The archive, of this name if one is given.

    Raises:
        ConfigurationError: There is none, or it is another one.
    """
    archive = backend.archive
    if archive is None:
        where = f" {name}" if name else ""
        raise ConfigurationError(
            f"This process has no archive{where}; set AGENTS_ARCHIVE_URL, or build its backend "
            "with one (Backend.archive)."
        )
    if name is not None and archive.name != name:
        raise ConfigurationError(
            f"The messages are in the archive {name}, and this process has {archive.name}; set "
            "AGENTS_ARCHIVE_URL to where they are."
        )
    return archive


async def _counted(backend: Backend, record: ConversationRecord) -> ConversationRecord:
    try:
        store = await store_of(backend, record)
    except ConfigurationError:
        return record
    return record.model_copy(update={"message_count": await store.count(record.id)})
