"""Tidying: what has to be done with conversations because time has passed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from shared.backend import Backend
from shared.directory.record import ConversationRecord, RecordFilter, Work
from shared.errors import AgentsError, ConversationBusyError, UnavailableError
from shared.keeping.archiving import archive
from shared.keeping.purging import purge
from shared.retention import RetentionRule

FORK_PATIENCE: Final = timedelta(hours=1)
"""A fork that is not made after so long was cut off, and is deleted."""

_Do = Callable[[Backend, str], Awaitable[object]]

log = structlog.get_logger()


@dataclass
class Tidied:
    """Ids of the conversations with which something was done.

    Attributes:
        completed: Work on them had been cut off, and was done again to its end.
        expired: They had no activity for long enough, and were closed.
        archived: A rule of retention said so.
        purged: Likewise.
        failed: Something could not be done with them; the log says why (`tidy.failed`).
    """

    completed: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    archived: list[str] = field(default_factory=list)
    purged: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.completed, self.expired, self.archived, self.purged, self.failed))


async def tidy(
    backend: Backend, *, idle_s: float | None = None, retention: Sequence[RetentionRule] = ()
) -> Tidied:
    """Complete what was cut off, close what is idle, and apply the rules of retention.

    `idle_s` is after how long without activity a conversation is closed; None never. A
    conversation with a run that has not ended is left for the next time. Any number of processes
    may tidy at once, and each may be cut off anywhere.

    Raises:
        StoreUnavailableError: No answer; tidying again is safe.
    """
    done = Tidied()
    directory = backend.opened_directory()
    work: _Do
    for record in await directory.list_unfinished():
        if _is_cut_off(record):
            work = archive if record.work is Work.ARCHIVE else purge
            await _attempt(backend, record, work, done.completed, done)
    now = datetime.now(UTC)
    if idle_s is not None:
        until = now - timedelta(seconds=idle_s)
        async for record in _matching(backend, RecordFilter(active=True, active_until=until)):
            if await _expire(backend, record, idle_s):
                done.expired.append(record.id)
    for rule in retention:
        where = RecordFilter(
            channel=rule.channel,
            agent=rule.agent,
            archived=False if rule.action == "archive" else None,
            active_until=now - timedelta(seconds=rule.after_s),
        )
        async for record in _matching(backend, where):
            if rule.action == "purge":
                work, successes = partial(purge, idle_s=rule.after_s), done.purged
            else:
                work, successes = partial(archive, idle_s=rule.after_s), done.archived
            await _attempt(backend, record, work, successes, done)
    return done


def _is_cut_off(record: ConversationRecord) -> bool:
    begun_at = record.deactivated_at or record.created_at
    return record.work is not Work.FORK or datetime.now(UTC) - begun_at > FORK_PATIENCE


async def _matching(backend: Backend, where: RecordFilter) -> AsyncIterator[ConversationRecord]:
    """The records that pass the filter. What is done with one does not keep others from coming."""
    directory = backend.opened_directory()
    after: str | None = None
    while True:
        page = await directory.list_records(where, after=after)
        for record in page.records:
            yield record
        if page.next is None:
            return
        after = page.next


async def _expire(backend: Backend, record: ConversationRecord, idle_s: float) -> bool:
    try:
        return await backend.opened_directory().expire(record.id, idle_s)
    except LookupError:  # purged meanwhile
        return False


async def _attempt(
    backend: Backend,
    record: ConversationRecord,
    work: _Do,
    successes: list[str],
    done: Tidied,
) -> None:
    """Do one conversation's work. What is wrong with it must not keep others from theirs."""
    try:
        await work(backend, record.id)
    except UnavailableError:
        raise
    except ConversationBusyError:
        return  # there is activity, or will be
    except LookupError:
        return  # somebody else has done it
    except AgentsError as error:
        log.error("tidy.failed", conversation_id=record.id, reason=str(error))
        done.failed.append(record.id)
    else:
        successes.append(record.id)
