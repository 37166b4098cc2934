"""Conversations in the memory of this process: for local mode and fast tests."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count, islice

import structlog

from shared.codec import decode_message, encode
from shared.conversation.fencing import (
    check_not_used_up,
    check_positions,
    check_token,
    count_known,
)
from shared.conversation.protocol import DELETED_FENCE_S, Claim, Writer
from shared.errors import CorruptEntryError, NewerVersionError
from shared.identifier import is_alone
from shared.memory.clock import Clock, utc_now
from shared.memory.cursor import format_cursor, parse_cursor
from shared.message import Message, Role
from shared.notification.memory import MemoryNotifications

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A stored message. What filters need stands beside it, so that only hits are decoded."""

    number: int
    run_id: str | None
    position: int
    role: str
    stored: str

    @property
    def cursor(self) -> str:
        return format_cursor(self.number)


@dataclass(slots=True)
class _Log:
    """One conversation: its entries, oldest first, and who may write."""

    entries: list[_Entry] = field(default_factory=list)
    fencing_token: int = 0
    retracted_token: int = 0
    is_deleted: bool = False
    writer: str | None = None
    next_position: int = 0

    def entries_of(self, run_id: str) -> list[_Entry]:
        return [entry for entry in self.entries if entry.run_id == run_id]

    def admit(self, writer: Writer) -> None:
        """Make the writer's run the one that writes; its positions go on where it left off.

        Raises:
            FencedError: A greater token was here.
        """
        check_token(writer, self.fencing_token)
        self.fencing_token = writer.fencing_token
        if self.writer != writer.run_id:
            self.writer = writer.run_id
            self.recount()

    def recount(self) -> None:
        """Let the writer's positions continue what is stored of its run."""
        own = self.entries_of(self.writer) if self.writer is not None else []
        self.next_position = own[-1].position + 1 if own else 0


class MemoryConversationStore:
    """Conversations of one process. Messages are kept encoded, as any other store keeps them.

    Not safe to use from several threads or event loops: between two awaits of its only loop, each
    method is atomic because nothing else runs.
    """

    def __init__(self, notifications: MemoryNotifications, *, clock: Clock = utc_now) -> None:
        self._notifications = notifications
        self._clock = clock
        self._numbers = count(1)
        self._logs: dict[str, _Log] = {}
        self._deadlines: dict[str, datetime] = {}
        self._by_deadline: list[tuple[datetime, str]] = []

    @property
    def is_distributed(self) -> bool:
        return False

    @property
    def notifications(self) -> MemoryNotifications:
        return self._notifications

    def topic(self, conversation_id: str) -> str:
        return f"conversation:{conversation_id}"

    async def claim(self, conversation_id: str, writer: Writer, *, limit: int) -> Claim:
        log = self._open(conversation_id)
        log.admit(writer)
        log.recount()
        own = log.entries_of(writer.run_id)
        earlier = [entry for entry in log.entries if not own or entry.number < own[0].number]
        readable = tuple(self._decode(conversation_id, own))
        return Claim(
            earlier=tuple(self._decode(conversation_id, earlier[max(0, len(earlier) - limit) :])),
            own=readable,
            next_position=log.next_position,
            unreadable=len(own) - len(readable),
        )

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        log = self._open(conversation_id)
        if writer is None:
            known: list[str] = []
        else:
            log.admit(writer)
            check_not_used_up(writer, log.retracted_token)
            known = _known_cursors(log, messages, writer)
        # Encoded before anything is stored: one message that cannot be stored must not leave the
        # others behind.
        encoded = [(message, encode(message)) for message in messages[len(known) :]]
        added = [self._entry(message, stored) for message, stored in encoded]
        self._revive(conversation_id, log)
        log.entries.extend(added)
        if writer is not None:
            log.next_position += len(added)
        if added:
            self._notifications.publish(self.topic(conversation_id), added[-1].cursor)
        return known + [entry.cursor for entry in added]

    async def list_messages(
        self,
        conversation_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        after: str | None = None,
        roles: Collection[Role] | None = None,
        run_id: str | None = None,
    ) -> list[Message]:
        first = parse_cursor(after) + 1 if after is not None else 0
        end = parse_cursor(before) if before is not None else None
        found = [
            entry
            for entry in self._entries(conversation_id)
            if entry.number >= first
            and (end is None or entry.number < end)
            and (roles is None or entry.role in roles)
            and (run_id is None or entry.run_id == run_id)
        ]
        if after is not None:
            return list(islice(self._decode(conversation_id, found), limit))
        newest_first = list(islice(self._decode(conversation_id, reversed(found)), limit))
        return newest_first[::-1]

    async def has_message(self, conversation_id: str, cursor: str) -> bool:
        number = parse_cursor(cursor)
        return any(entry.number == number for entry in self._entries(conversation_id))

    async def retract(self, conversation_id: str, writer: Writer) -> int:
        log = self._open(conversation_id)
        log.admit(writer)
        own = log.entries_of(writer.run_id)
        log.entries = [entry for entry in log.entries if entry.run_id != writer.run_id]
        log.next_position = 0
        log.retracted_token = writer.fencing_token
        if own:
            self._notifications.publish(self.topic(conversation_id), "retracted")
        return len(own)

    async def expire(self, conversation_id: str, ttl_s: float) -> None:
        self._forget_expired()
        deadline = self._clock() + timedelta(seconds=ttl_s)
        self._deadlines[conversation_id] = deadline
        heappush(self._by_deadline, (deadline, conversation_id))

    async def clear(self, conversation_id: str) -> int:
        entries = self._entries(conversation_id)
        removed = len(entries)
        entries.clear()
        self._notifications.publish(self.topic(conversation_id), "cleared")
        return removed

    async def remove(self, conversation_id: str, cursor: str) -> bool:
        number = parse_cursor(cursor)
        entries = self._entries(conversation_id)
        for place, entry in enumerate(entries):
            if entry.number == number:
                del entries[place]
                self._notifications.publish(self.topic(conversation_id), "removed")
                return True
        return False

    async def delete(self, conversation_id: str) -> int:
        self._forget_expired()
        log = self._logs.get(conversation_id)
        if log is None:
            return 0
        token = log.fencing_token
        self._logs[conversation_id] = _Log(
            fencing_token=token, retracted_token=token, is_deleted=True
        )
        await self.expire(conversation_id, DELETED_FENCE_S)
        self._notifications.publish(self.topic(conversation_id), "deleted")
        return len(log.entries)

    async def count(self, conversation_id: str) -> int:
        return len(self._entries(conversation_id))

    async def conversation_ids(self) -> AsyncIterator[str]:
        self._forget_expired()
        for conversation_id in [name for name, log in self._logs.items() if log.entries]:
            if not is_alone(conversation_id):
                yield conversation_id

    async def aclose(self) -> None:
        pass

    def _open(self, conversation_id: str) -> _Log:
        """The conversation's log, to be written to; made if there is none."""
        self._forget_expired()
        return self._logs.setdefault(conversation_id, _Log())

    def _revive(self, conversation_id: str, log: _Log) -> None:
        """Keep a conversation that begins anew after it was deleted."""
        if log.is_deleted:
            log.is_deleted = False
            self._deadlines.pop(conversation_id, None)

    def _entries(self, conversation_id: str) -> list[_Entry]:
        """The conversation's entries. Reading an unknown conversation does not make it known."""
        self._forget_expired()
        log = self._logs.get(conversation_id)
        return log.entries if log is not None else []

    def _forget_expired(self) -> None:
        now = self._clock()
        while self._by_deadline and self._by_deadline[0][0] <= now:
            deadline, conversation_id = heappop(self._by_deadline)
            # Another `expire` may have put the deadline off since; that one is in the heap too.
            if self._deadlines.get(conversation_id) == deadline:
                del self._deadlines[conversation_id]
                self._logs.pop(conversation_id, None)

    def _entry(self, message: Message, stored: str) -> _Entry:
        return _Entry(next(self._numbers), message.run_id, message.position, message.role, stored)

    def _decode(self, conversation_id: str, entries: Iterable[_Entry]) -> Iterator[Message]:
        for entry in entries:
            try:
                yield decode_message(entry.stored, cursor=entry.cursor)
            except NewerVersionError:
                raise
            except CorruptEntryError:
                _log.warning(
                    "entry_unreadable", conversation_id=conversation_id, cursor=entry.cursor
                )


def _known_cursors(log: _Log, messages: Sequence[Message], writer: Writer) -> list[str]:
    """Cursors of the messages that are stored already: the first so many of `messages`.

    Raises:
        PositionGapError: What follows them does not continue the run.
    """
    check_positions(messages, writer)
    known = messages[: count_known(messages, writer, log.next_position)]
    cursors = {entry.position: entry.cursor for entry in log.entries_of(writer.run_id)}
    return [cursors.get(message.position, "") for message in known]
