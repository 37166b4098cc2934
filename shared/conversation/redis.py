"""Conversations in Redis: one stream each, written by scripts only."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import Any, Final

import structlog
from redis.asyncio import Redis

from shared.codec import decode_message, encode
from shared.conversation.protocol import DELETED_FENCE_S, Claim, Writer
from shared.errors import (
    CorruptEntryError,
    FencedError,
    NewerVersionError,
    PositionGapError,
    TamperedError,
)
from shared.identifier import is_alone, is_run_id
from shared.message import Message, Role
from shared.notification.protocol import Notifications
from shared.redis_client import (
    Replicas,
    Script,
    lower_bound,
    script_source,
    translated_errors,
    upper_bound,
)
from shared.redis_keys import Keys

log = structlog.get_logger()

_PAGE: Final = 200
"""Entries of one read, where a filter or a missing limit makes several reads necessary."""

HINT_BYTES: Final = 4096
"""Most bytes of a stored message that a hint brings along. All watchers of a process hear hints
over one connection, and Redis cuts off who does not keep up."""

_Entry = tuple[str, dict[str, str]]


class RedisConversationStore:
    """See `ConversationStore`. The stream's entry ids are the cursors.

    A conversation that nobody appended to for `ttl_s` is forgotten. Of one with more messages than
    `max_messages` the oldest are removed, where that separates no call from its results; those of
    the run that is writing stay. None is no limit. `close` is called by `aclose`, in order.

    A run's message of up to `hint_bytes` rides along with its hint, so that watchers need not ask
    for it (see `TellingStore`). That is for a single server: nodes of a cluster may lose a hint on
    its way from one to the other, and behind sentinels a primary that was deposed may publish what
    was never stored by its successor.
    """

    is_distributed = True

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        notifications: Notifications,
        *,
        replicas: Replicas | None = None,
        ttl_s: float | None = None,
        max_messages: int | None = None,
        hint_bytes: int = 0,
        close: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._client = client
        self._keys = keys
        self._notifications = notifications
        self._claim = Script(client, script_source("conversation", "claim"))
        self._append, self._retract, self._clear, self._remove, self._delete = (
            Script(client, script_source("conversation", name), replicas=replicas)
            for name in ("append", "retract", "clear", "remove", "delete")
        )
        self._ttl_ms = int((ttl_s or 0) * 1000)
        self._max_messages = max_messages or 0
        self._hint_bytes = hint_bytes
        self._close = close

    @property
    def notifications(self) -> Notifications:
        """Redis pub/sub."""
        return self._notifications

    def topic(self, conversation_id: str) -> str:
        """The channel of a conversation."""
        return self._keys.history_channel(conversation_id)

    async def claim(self, conversation_id: str, writer: Writer, *, limit: int) -> Claim:
        """Become the only writer; see `ConversationStore.claim`."""
        answer = await self._claim(
            self._both_keys(conversation_id), [writer.run_id, writer.fencing_token, limit]
        )
        _check_not_fenced(answer, conversation_id, writer)
        earlier = [_pair(entry) for entry in reversed(answer[1])]
        own = self._decoded([_pair(entry) for entry in answer[2]], conversation_id)
        return Claim(
            earlier=tuple(self._decoded(earlier, conversation_id)),
            own=tuple(own),
            next_position=answer[3],
            unreadable=len(answer[2]) - len(own),
        )

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        """Append, each message once; see `ConversationStore.append`."""
        if not messages:
            return []
        if writer is not None:
            _check_positions(messages, writer)
        arguments: list[str | int] = [
            self.topic(conversation_id),
            writer.run_id if writer else "",
            writer.fencing_token if writer else 0,
            "" if is_alone(conversation_id) else conversation_id,
            0 if is_alone(conversation_id) else self._ttl_ms,
            self._max_messages,
            self._hint_bytes,
        ]
        for message in messages:
            arguments += [
                message.run_id or "",
                message.position,
                message.role.value,
                message.kind.value,
                encode(message),
            ]
        answer = await self._append(self._all_keys(conversation_id), arguments)
        if writer is not None:
            _check_not_fenced(answer, conversation_id, writer)
        if answer[0] == "gap":
            raise PositionGapError(
                f"Run {writer.run_id if writer else None} wrote {answer[1]} messages so far; "
                f"position {messages[0].position} would leave a gap."
            )
        return list(answer[1])

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
        low, high = lower_bound(after), upper_bound(before)
        is_from_first = run_id is not None and after is None and limit is None
        if run_id is not None and after is None:
            first = await self._first_of(conversation_id, run_id)
            if first is None:
                return []
            low = first
        newest_first = after is None and limit is not None
        found: list[Message] = []
        while limit is None or len(found) < limit:
            page = await self._read_page(conversation_id, low, high, newest_first=newest_first)
            for entry in page:
                if limit is not None and len(found) >= limit:
                    break
                if _passes(entry, roles, run_id):
                    found += self._decoded([entry], conversation_id)
            if len(page) < _PAGE or (is_from_first and _is_past_run(page, run_id)):
                break
            if newest_first:
                high = f"({page[-1][0]}"
            else:
                low = f"({page[-1][0]}"
        return found[::-1] if newest_first else found

    def told(
        self,
        conversation_id: str,  # noqa: ARG002 - wrappers need it
        hints: Sequence[str],
        *,
        run_id: str,
        after: str | None,
        position: int,
    ) -> list[Message] | None:
        """What hints brought along; see `TellingStore.told`."""
        told: list[Message] = []
        seen = _order(after or "0-0")
        for hint in hints:
            cursor, _, stored = hint.partition(" ")
            if not stored:
                return None  # also after a retract or a clear
            try:
                if _order(cursor) <= seen:
                    continue
                message = decode_message(stored, cursor=cursor)
            except (ValueError, CorruptEntryError, NewerVersionError):
                return None
            if message.run_id != run_id:
                continue
            if message.position != position + len(told):
                return None
            told.append(message)
        return told

    async def has_message(self, conversation_id: str, cursor: str) -> bool:
        """Whether a message is still there; see `ConversationStore.has_message`."""
        lower_bound(cursor)  # refuses what is no cursor
        with translated_errors():
            found: Any = await self._client.xrange(
                self._keys.messages(conversation_id), cursor, cursor, count=1
            )
        return bool(found)

    async def retract(self, conversation_id: str, writer: Writer) -> int:
        """Remove what a run wrote; see `ConversationStore.retract`."""
        answer = await self._retract(
            self._both_keys(conversation_id),
            [self.topic(conversation_id), writer.run_id, writer.fencing_token],
        )
        _check_not_fenced(answer, conversation_id, writer)
        return int(answer[1])

    async def expire(self, conversation_id: str, ttl_s: float) -> None:
        """Forget a conversation after a while; see `ConversationStore.expire`."""
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in self._both_keys(conversation_id):
                    pipeline.pexpire(key, int(ttl_s * 1000))
                await pipeline.execute()

    async def clear(self, conversation_id: str) -> int:
        """Remove all messages; see `ConversationStore.clear`."""
        return int(
            await self._clear(
                self._all_keys(conversation_id), [self.topic(conversation_id), conversation_id]
            )
        )

    async def remove(self, conversation_id: str, cursor: str) -> bool:
        """Remove one message; see `ConversationStore.remove`."""
        lower_bound(cursor)  # refuses what is no cursor
        return bool(
            await self._remove(
                self._both_keys(conversation_id), [self.topic(conversation_id), cursor]
            )
        )

    async def delete(self, conversation_id: str) -> int:
        """Forget a conversation; see `ConversationStore.delete`."""
        return int(
            await self._delete(
                self._all_keys(conversation_id),
                [self.topic(conversation_id), conversation_id, int(DELETED_FENCE_S * 1000)],
            )
        )

    async def count(self, conversation_id: str) -> int:
        """How many messages there are; see `ConversationStore.count`."""
        with translated_errors():
            return int(await self._client.xlen(self._keys.messages(conversation_id)))

    async def conversation_ids(self) -> AsyncIterator[str]:
        """All conversations; see `ConversationStore.conversation_ids`."""
        for index in self._keys.all_histories():
            with translated_errors():
                known: Any = await self._client.zrange(index, 0, -1)
            for start in range(0, len(known), _PAGE):
                names = known[start : start + _PAGE]
                for name, length in zip(names, await self._lengths(names), strict=True):
                    if length > 0:
                        yield name

    async def aclose(self) -> None:
        """Close the connections, if they are the store's own."""
        for close in self._close:
            await close()

    async def _lengths(self, conversation_ids: Sequence[str]) -> list[int]:
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for conversation_id in conversation_ids:
                    pipeline.xlen(self._keys.messages(conversation_id))
                return list(await pipeline.execute())

    def _both_keys(self, conversation_id: str) -> list[str]:
        return [self._keys.history(conversation_id), self._keys.messages(conversation_id)]

    def _all_keys(self, conversation_id: str) -> list[str]:
        return [*self._both_keys(conversation_id), self._keys.histories(conversation_id)]

    async def _first_of(self, conversation_id: str, run_id: str) -> str | None:
        with translated_errors():
            first: Any = await self._client.hget(
                self._keys.history(conversation_id), f"first:{run_id}"
            )
        return first if first is None else str(first)

    async def _read_page(
        self, conversation_id: str, low: str, high: str, *, newest_first: bool
    ) -> list[_Entry]:
        key = self._keys.messages(conversation_id)
        page: Any
        with translated_errors():
            if newest_first:
                page = await self._client.xrevrange(key, high, low, count=_PAGE)
            else:
                page = await self._client.xrange(key, low, high, count=_PAGE)
        return list(page)

    def _decoded(self, entries: Sequence[_Entry], conversation_id: str) -> list[Message]:
        """Decode entries; one that cannot be read is reported and left out.

        Raises:
            NewerVersionError: One of them is whole, but for newer readers.
        """
        messages = []
        for cursor, fields in entries:
            try:
                message = decode_message(fields.get("data", ""), cursor=cursor)
                _check_same(message, fields)
                messages.append(message)
            except NewerVersionError:
                raise
            except CorruptEntryError as error:
                log.error(
                    "entry.unreadable",
                    conversation_id=conversation_id,
                    cursor=cursor,
                    error=type(error).__name__,
                )
        return messages


def _pair(entry: Any) -> _Entry:
    """A script's answer lists an entry's fields flat; make it what XRANGE would give."""
    cursor, flat = entry
    return cursor, dict(zip(flat[::2], flat[1::2], strict=True))


def _order(cursor: str) -> tuple[int, int]:
    """By what cursors of one stream are in order."""
    milliseconds, _, number = cursor.partition("-")
    return int(milliseconds), int(number)


def _check_same(message: Message, fields: dict[str, str]) -> None:
    """Scripts and filters go by the fields beside a message.

    Raises:
        CorruptEntryError: They tell of another message than the one that is there.
        TamperedError: The same, of a sealed message, which nobody leaves out.
    """
    told = (fields.get("run"), fields.get("pos"), fields.get("role"))
    if told == (message.run_id or "", str(message.position), message.role.value):
        return
    if message.sealed is not None:
        raise TamperedError(
            f"The entry at {message.cursor} is another message than its fields say: somebody else "
            "wrote to the store. It is kept."
        )
    raise CorruptEntryError(f"The entry at {message.cursor} contradicts its own fields.")


def _passes(entry: _Entry, roles: Collection[Role] | None, run_id: str | None) -> bool:
    fields = entry[1]
    return (roles is None or fields.get("role") in roles) and (
        run_id is None or fields.get("run") == run_id
    )


def _is_past_run(page: Sequence[_Entry], run_id: str | None) -> bool:
    """Whether a page that was read from the run's first message on holds another run's.

    Runs of a conversation write one after the other, so nothing of this one follows.
    """
    runs = {fields.get("run") for _, fields in page}
    return run_id is not None and any(is_run_id(run) and run != run_id for run in runs)


def _check_positions(messages: Sequence[Message], writer: Writer) -> None:
    first = messages[0].position
    for offset, message in enumerate(messages):
        if message.run_id != writer.run_id or message.position != first + offset:
            raise PositionGapError(
                f"Messages of one append must be of run {writer.run_id} and have consecutive "
                f"positions; found position {message.position} of run {message.run_id}."
            )


def _check_not_fenced(answer: Any, conversation_id: str, writer: Writer) -> None:
    if answer[0] == "fenced":
        raise FencedError(
            f"Run {writer.run_id} may not write to {conversation_id} with fencing token "
            f"{writer.fencing_token}: a newer one exists. Another worker leads the run now."
        )
