"""The conversation store over a place on disk: the rules, and the way off the event loop."""

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Final

import structlog

from shared.blocking_work import BlockingWork
from shared.codec import decode_message, encode
from shared.conversation.fencing import (
    check_not_used_up,
    check_positions,
    check_token,
    count_known,
)
from shared.conversation.local.storage import (
    EVERYTHING,
    ConversationReader,
    ConversationWriter,
    Entry,
    Selection,
    State,
    Storage,
)
from shared.conversation.protocol import DELETED_FENCE_S, Claim, Writer
from shared.errors import ConfigurationError, CorruptEntryError, NewerVersionError
from shared.memory.clock import Clock, utc_now
from shared.memory.cursor import format_cursor, parse_cursor
from shared.message import Message, Role
from shared.notification.local import LocalNotifications

_READERS: Final = 4
_WRITERS: Final = 8
"""Threads. What they do is short, but for waiting: for the disk, and for who is writing."""

_REMOVED: Final = "removed"
"""The payload of every change that adds nothing."""
_US: Final = 1_000_000
_LARGEST: Final = 2**63 - 1
"""Databases have no room for a larger number; no message has one."""

log = structlog.get_logger()


class LocalConversationStore:
    """See `ConversationStore`. For any number of threads, event loops and processes of one machine.

    All guarantees hold between them, and what is appended survives a power cut, if the disk does
    what fsync asks of it. What another process writes is seen by its watchers within about 0.1 s.

    A call that is cancelled may still happen, whole, like one whose answer is lost.

    Raises:
        ConfigurationError: What is stored is damaged as a whole.
    """

    is_distributed = False
    """Workers on other machines cannot see these files. Other processes of this machine can."""

    def __init__(self, storage: Storage, *, clock: Clock = utc_now) -> None:
        self._storage = storage
        self._clock = clock
        self._reading = BlockingWork("conversations:read", threads=_READERS)
        self._writing = BlockingWork("conversations:write", threads=_WRITERS)
        self._notifications = LocalNotifications(storage.lookout, self._reading)
        self._is_closed = False
        try:
            storage.forget_expired(self._now())
        except CorruptEntryError as error:  # found when it is built, so it is the set-up's
            raise ConfigurationError(str(error)) from error

    @property
    def notifications(self) -> LocalNotifications:
        """Pushed within this process; seen by looking, from other processes."""
        return self._notifications

    def topic(self, conversation_id: str) -> str:
        """The conversation's id: these notifications are about nothing else."""
        return conversation_id

    async def claim(self, conversation_id: str, writer: Writer, *, limit: int) -> Claim:
        """Become the only writer; see `ConversationStore.claim`."""
        return await self._writing.run(self._claim, conversation_id, writer, limit)

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        """Append, each message once; see `ConversationStore.append`."""
        if not messages:
            return []
        if writer is not None:
            check_positions(messages, writer)
        return await self._writing.run(self._append, conversation_id, list(messages), writer)

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
        """Read a part of a conversation; see `ConversationStore.list_messages`."""
        selection = Selection(
            after=_number_of(after) if after is not None else None,
            before=_number_of(before) if before is not None else None,
            roles=frozenset(roles) if roles is not None else None,
            run_id=run_id,
        )
        newest_first = after is None and limit is not None
        return await self._reading.run(
            self._list, conversation_id, selection, limit, newest_first=newest_first
        )

    async def has_message(self, conversation_id: str, cursor: str) -> bool:
        """Whether a message is still there; see `ConversationStore.has_message`."""
        return await self._reading.run(self._has, conversation_id, _number_of(cursor))

    async def retract(self, conversation_id: str, writer: Writer) -> int:
        """Remove what a run wrote; see `ConversationStore.retract`."""
        return await self._writing.run(self._retract, conversation_id, writer)

    async def expire(self, conversation_id: str, ttl_s: float) -> None:
        """Forget a conversation after a while; see `ConversationStore.expire`."""
        await self._writing.run(self._expire, conversation_id, ttl_s)

    async def clear(self, conversation_id: str) -> int:
        """Remove all messages; see `ConversationStore.clear`."""
        return await self._writing.run(self._clear, conversation_id)

    async def remove(self, conversation_id: str, cursor: str) -> bool:
        """Remove one message; see `ConversationStore.remove`."""
        return await self._writing.run(self._remove, conversation_id, _number_of(cursor))

    async def delete(self, conversation_id: str) -> int:
        """Forget a conversation; see `ConversationStore.delete`."""
        return await self._writing.run(self._delete, conversation_id)

    async def count(self, conversation_id: str) -> int:
        """How many messages there are; see `ConversationStore.count`."""
        return await self._reading.run(self._count, conversation_id)

    async def conversation_ids(self) -> AsyncIterator[str]:
        """All conversations; see `ConversationStore.conversation_ids`."""
        for conversation_id in await self._reading.run(self._storage.conversation_ids, self._now()):
            yield conversation_id

    async def aclose(self) -> None:
        """Wait for what has begun, end all watching, close the files."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._notifications.aclose()
        await self._reading.run(self._writing.close)
        self._reading.close()
        self._storage.close()

    # From here on in threads.

    def _claim(self, conversation_id: str, writer: Writer, limit: int) -> Claim:
        with self._alone_with(conversation_id) as conversation:
            former = self._state(conversation)
            check_token(writer, former.fencing_token)
            own = list(conversation.entries(Selection(run_id=writer.run_id)))
            state = _with_writer(former, writer, next_position=_next_position(own[-1:]))
            if state != former:
                conversation.add(_kept(state, writer), [])
            older = Selection(before=own[0].number if own else None)
            newest = conversation.entries(older, newest_first=True)
            earlier = list(islice(newest, limit))[::-1]
        readable = tuple(_decoded(conversation_id, own))
        return Claim(
            earlier=tuple(_decoded(conversation_id, earlier)),
            own=readable,
            next_position=state.next_position,
            unreadable=len(own) - len(readable),
        )

    def _append(
        self, conversation_id: str, messages: list[Message], writer: Writer | None
    ) -> list[str]:
        # Encoded before anything is stored: one message that cannot be stored must not leave the
        # others behind.
        encoded = [encode(message).encode() for message in messages]
        with self._alone_with(conversation_id) as conversation:
            state, known = self._state(conversation), list[str]()
            if writer is not None:
                state = self._admitted(conversation, state, writer)
                check_not_used_up(writer, state.retracted_token)
                count = count_known(messages, writer, state.next_position)
                known = _known_cursors(conversation, writer, messages[:count])
            entries = self._entries(state, messages[len(known) :], encoded[len(known) :])
            if entries:
                conversation.add(_extended(state, entries, writer), entries)
        return known + [format_cursor(entry.number) for entry in entries]

    def _list(
        self, conversation_id: str, selection: Selection, limit: int | None, *, newest_first: bool
    ) -> list[Message]:
        if selection.roles is not None and not selection.roles:
            return []
        with self._storage.reading(conversation_id) as conversation:
            if conversation.state.is_over(self._now()):
                return []
            found = conversation.entries(selection, newest_first=newest_first)
            messages = list(islice(_decoded(conversation_id, found), limit))
        return messages[::-1] if newest_first else messages

    def _has(self, conversation_id: str, number: int) -> bool:
        with self._storage.reading(conversation_id) as conversation:
            return not conversation.state.is_over(self._now()) and conversation.holds(number)

    def _count(self, conversation_id: str) -> int:
        with self._storage.reading(conversation_id) as conversation:
            state = conversation.state
        return 0 if state.is_over(self._now()) else state.count

    def _retract(self, conversation_id: str, writer: Writer) -> int:
        with self._alone_with(conversation_id) as conversation:
            former = self._state(conversation)
            check_token(writer, former.fencing_token)
            state = replace(
                _with_writer(former, writer, next_position=0),
                retracted_token=writer.fencing_token,
            )
            mine = Selection(run_id=writer.run_id)
            return conversation.keep(state, gone=mine)

    def _clear(self, conversation_id: str) -> int:
        with self._alone_with(conversation_id) as conversation:
            state = self._state(conversation)
            if state.count == 0:
                return 0
            return conversation.keep(state, gone=EVERYTHING)

    def _remove(self, conversation_id: str, number: int) -> bool:
        with self._alone_with(conversation_id) as conversation:
            state = self._state(conversation)
            if not conversation.holds(number):
                return False
            one = Selection(after=number - 1, before=number + 1)
            return conversation.keep(state, gone=one) > 0

    def _delete(self, conversation_id: str) -> int:
        with self._alone_with(conversation_id) as conversation:
            former = self._state(conversation)
            if former.is_deleted:
                return 0
            if former.fencing_token == 0:
                conversation.forget()
                return former.count
            state = State(
                number=former.number,
                count=former.count,
                fencing_token=former.fencing_token,
                retracted_token=former.fencing_token,
                is_deleted=True,
                expires_at=self._now() + DELETED_FENCE_S,
            )
            removed = conversation.keep(state, gone=EVERYTHING)
        self._storage.forget_expired(self._now())
        return removed

    def _expire(self, conversation_id: str, ttl_s: float) -> None:
        with self._alone_with(conversation_id) as conversation:
            state = self._state(conversation)
            if state != State():
                conversation.add(replace(state, expires_at=self._now() + ttl_s), [])
        self._storage.forget_expired(self._now())

    @contextmanager
    def _alone_with(self, conversation_id: str) -> Iterator[ConversationWriter]:
        """Change a conversation alone; its watchers are told when that is done and durable."""
        with self._storage.writing(conversation_id) as conversation:
            before = conversation.state.mark
            yield conversation
            after = conversation.state.mark
        if after != before:
            payload = format_cursor(after[0]) if after[0] > before[0] else _REMOVED
            topic = self.topic(conversation_id)
            self._notifications.publish(topic, payload, before=before, after=after)

    def _state(self, conversation: ConversationWriter) -> State:
        """What is known of a conversation, once it is forgotten if its time has come."""
        if conversation.state.is_over(self._now()):
            conversation.forget()
        return conversation.state

    def _admitted(self, conversation: ConversationReader, state: State, writer: Writer) -> State:
        """The state with the writer's run as the one that writes, where it left off.

        Raises:
            FencedError: A greater token was here.
        """
        check_token(writer, state.fencing_token)
        if state.writer == writer.run_id:
            return _with_writer(state, writer, next_position=state.next_position)
        own = conversation.entries(Selection(run_id=writer.run_id), newest_first=True)
        return _with_writer(state, writer, next_position=_next_position(islice(own, 1)))

    def _entries(
        self, state: State, messages: Sequence[Message], encoded: Sequence[bytes]
    ) -> list[Entry]:
        # The time, and not a count from 1: after a conversation was forgotten, a watcher that goes
        # on from a cursor of before finds the new messages behind it.
        first = max(state.number + 1, int(self._now() * _US))
        return [
            Entry(
                number,
                message.run_id,
                message.position,
                message.role.value,
                message.kind.value,
                data,
            )
            for number, (message, data) in enumerate(zip(messages, encoded, strict=True), first)
        ]

    def _now(self) -> float:
        return self._clock().timestamp()


def _number_of(cursor: str) -> int:
    """The number that a cursor names. Raises `InvalidCursorError`."""
    return min(parse_cursor(cursor), _LARGEST)


def _with_writer(state: State, writer: Writer, *, next_position: int) -> State:
    return replace(
        state,
        fencing_token=writer.fencing_token,
        writer=writer.run_id,
        next_position=next_position,
    )


def _kept(state: State, writer: Writer) -> State:
    """A conversation that was deleted begins anew with a writer who did not know the old one."""
    return state if writer.fencing_token == state.retracted_token else _revived(state)


def _revived(state: State) -> State:
    return replace(state, is_deleted=False, expires_at=None) if state.is_deleted else state


def _extended(state: State, entries: Sequence[Entry], writer: Writer | None) -> State:
    """The state behind further entries."""
    return replace(
        _revived(state),
        number=entries[-1].number,
        count=state.count + len(entries),
        next_position=state.next_position + (len(entries) if writer is not None else 0),
    )


def _next_position(last: Iterable[Entry]) -> int:
    """The position behind a run's last entry, if there is one."""
    return max((entry.position + 1 for entry in last), default=0)


def _known_cursors(
    conversation: ConversationReader, writer: Writer, messages: Sequence[Message]
) -> list[str]:
    """Cursors of messages that are stored already, '' for those that were removed since."""
    if not messages:
        return []
    cursors: dict[int, str] = {}
    for entry in conversation.entries(Selection(run_id=writer.run_id), newest_first=True):
        cursors[entry.position] = format_cursor(entry.number)
        if entry.position <= messages[0].position:
            break
    return [cursors.get(message.position, "") for message in messages]


def _decoded(conversation_id: str, entries: Iterable[Entry]) -> Iterator[Message]:
    """Decode entries; one that cannot be read is reported and left out.

    Raises:
        NewerVersionError: One of them is whole, but for newer readers.
    """
    for entry in entries:
        cursor = format_cursor(entry.number)
        try:
            message = decode_message(entry.data, cursor=cursor)
            _check_same(message, entry)
        except NewerVersionError:
            raise
        except CorruptEntryError as error:
            log.error(
                "entry.unreadable",
                conversation_id=conversation_id,
                cursor=cursor,
                error=type(error).__name__,
            )
        else:
            yield message


def _check_same(message: Message, entry: Entry) -> None:
    """Filters go by the fields beside a message.

    Raises:
        CorruptEntryError: They tell of another message than the one that is there.
    """
    told = (entry.run_id, entry.position, entry.role)
    if told != (message.run_id, message.position, message.role.value):
        raise CorruptEntryError(f"The entry at {message.cursor} contradicts its own fields.")
