"""Purging: true deletion of a conversation, with everything that is kept of it."""

from contextlib import suppress
from dataclasses import dataclass

from shared.backend import Backend
from shared.directory.record import RecordFilter, Work
from shared.directory.session import is_managed_id
from shared.errors import ConversationBusyError, UnknownConversationError
from shared.keeping.reading import find_record, opened_archive


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted of one conversation."""

    conversation_id: str
    messages: int
    runs: int


async def purge(backend: Backend, conversation_id: str, *, idle_s: float | None = None) -> Purged:
    """Delete messages, runs with inputs, outputs, events and idempotency keys, and the record.

    What stays: the conversation's id with a fencing token in the store of conversations, for
    `DELETED_FENCE_S`, where a run had written to it; and its id in records of its forks, which
    are conversations of their own. Conversations without a record can be purged as well. Purging
    what is not there does nothing, so it may be repeated. With `idle_s`, only if nothing has
    happened in it for so long.

    Raises:
        ConversationBusyError: A run in it has not ended; cancel it first. Nothing was deleted. Or
            something has happened in it within `idle_s`.
        ConfigurationError: Its messages are in an archive that this process does not have.
        StoreUnavailableError: No answer. It takes no runs any more; repeating it is safe, and
            `tidy` does, where it has a record.
    """
    record = await find_record(backend, conversation_id)
    if record is not None:
        if record.archived is not None:
            opened_archive(backend, record.archived)
        with suppress(UnknownConversationError):  # somebody else has just purged it
            await backend.opened_directory().begin(conversation_id, Work.PURGE, idle_s=idle_s)
    runs = await backend.ledger.remove_runs(conversation_id)
    messages = await backend.conversations.delete(conversation_id)
    if backend.archive is not None:
        messages += await backend.archive.conversations.delete(conversation_id)
    if backend.directory is not None and is_managed_id(conversation_id):
        await backend.directory.forget(conversation_id)
    return Purged(conversation_id, messages, runs)


async def purge_user(backend: Backend, user: str) -> tuple[Purged, ...]:
    """Purge every conversation whose record names this user; return what was deleted.

    Conversations that users share name none of them, so they stay.

    Raises:
        ConversationBusyError: In one of them a run has not ended. All others are purged.
        ConfigurationError, StoreUnavailableError: As `purge`.
    """
    directory = backend.opened_directory()
    purged: list[Purged] = []
    obstacle: ConversationBusyError | None = None
    page = await directory.list_records(RecordFilter(user=user))
    while page.records:
        for record in page.records:
            try:
                purged.append(await purge(backend, record.id))
            except ConversationBusyError as error:
                obstacle = error
        if page.next is None:
            break
        page = await directory.list_records(RecordFilter(user=user), after=page.next)
    if obstacle is not None:
        raise obstacle
    return tuple(purged)
