"""Conversations in PostgreSQL: a row for each message, written by routines of `shared/sql`."""

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Any, Final, LiteralString

import structlog

from shared.codec import decode_message, encode, storable
from shared.conversation.protocol import DELETED_FENCE_S, Claim, Writer
from shared.errors import (
    CorruptEntryError,
    FencedError,
    InvalidCursorError,
    NewerVersionError,
    PositionGapError,
    StoreUnavailableError,
)
from shared.identifier import is_alone
from shared.message import Message, Role
from shared.notification.postgres import PostgresNotifications
from shared.postgres_client import PostgresClient, parse_postgres_url
from shared.postgres_fault import GONE
from shared.postgres_risks import find_risks
from shared.postgres_schema import PostgresSchema
from shared.risk import Risk
from shared.settings import Settings

log = structlog.get_logger()

_PAGE: Final = 1000
"""Rows of one read at most."""
_CURSOR: Final = re.compile(r"p([1-9][0-9]{0,18})")
_LARGEST: Final = 2**63 - 1

_APPEND: Final = """
    CALL {schema}.append_1(%s, %s, %s, %s, %s, %s::text[], %s::bigint[], %s::text[], %s::text[],
        %s::text[], NULL, NULL, NULL)
"""
_CLAIM: Final = "SELECT * FROM {schema}.claim_1(%s, %s, %s, %s)"
_RETRACT: Final = "CALL {schema}.retract_1(%s, %s, %s, NULL, NULL)"
_CLEAR: Final = "CALL {schema}.clear_1(%s, NULL)"
_REMOVE: Final = "CALL {schema}.remove_1(%s, %s, NULL)"
_DELETE: Final = "CALL {schema}.delete_1(%s, %s, NULL)"
_EXPIRE: Final = "CALL {schema}.expire_1(%s, %s)"

_READ: Final = """
    SELECT number, run_id, position, role, data FROM {schema}.message
    WHERE conversation_id = %s AND number > %s AND number < %s AND EXISTS (
        SELECT FROM {schema}.conversation
        WHERE id = %s AND (expires_at IS NULL OR expires_at > now())
    ) {filters} ORDER BY number {order} LIMIT %s
"""
_HAS: Final = """
    SELECT 1 FROM {schema}.message WHERE conversation_id = %s AND number = %s AND EXISTS (
        SELECT FROM {schema}.conversation
        WHERE id = %s AND (expires_at IS NULL OR expires_at > now())
    )
"""
_COUNT: Final = """
    SELECT messages FROM {schema}.conversation
    WHERE id = %s AND (expires_at IS NULL OR expires_at > now())
"""
_IDS: Final = """
    SELECT id FROM {schema}.conversation
    WHERE id > %s AND id < '~' AND messages > 0 AND (expires_at IS NULL OR expires_at > now())
    ORDER BY id LIMIT %s
"""
"""Histories of runs that are alone begin with a tilde, which comes behind what ids begin with."""

_Row = tuple[int, str | None, int, str, str]


class PostgresConversationStore:
    """See `ConversationStore`. A cursor is the number of a message, behind a ``p``.

    Every change is one statement, so one round trip, and takes effect in one transaction; a second
    one in the same round trip hints at it. `claim`, `has_message` and `count` are one round trip as
    well; `list_messages` and `conversation_ids` are one for each thousand that they read. The first
    call of a process makes the tables, or finds them (two more round trips).

    A conversation that nobody appended to for `ttl_s` is forgotten. Of one with more messages than
    `max_messages` the oldest are removed, where that separates no call from its results; those of
    the run that is writing stay. None is no limit.
    """

    is_distributed = True

    def __init__(
        self,
        client: PostgresClient,
        schema: PostgresSchema,
        *,
        ttl_s: float | None = None,
        max_messages: int | None = None,
    ) -> None:
        self._client = client
        self._schema = schema
        self._ttl_s = ttl_s
        self._max_messages = max_messages
        self._notifications = PostgresNotifications(client, schema.channel)
        self._preparing: asyncio.Task[None] | None = None
        self._is_prepared = False

    @property
    def notifications(self) -> PostgresNotifications:
        """LISTEN and NOTIFY, over one connection."""
        return self._notifications

    def topic(self, conversation_id: str) -> str:
        """The conversation's id: the channel is the system's own."""
        return conversation_id

    async def prepare(self) -> None:
        """Make the tables, or bring them up to date. Every other method does it, too.

        Raises:
            ConfigurationError: They are of a newer release, or this user may not make them.
            StoreUnavailableError: No answer.
        """
        if self._preparing is None:
            # One attempt for all who wait. One after the other, the last of many would wait for as
            # many time limits.
            self._preparing = asyncio.create_task(
                self._schema.prepare(self._client), name="prepare conversations"
            )
            self._preparing.add_done_callback(self._on_prepared)
        await asyncio.shield(self._preparing)

    async def find_risks(self) -> list[Risk]:
        """What is unsafe about the server."""
        return await find_risks(self._client)

    async def claim(self, conversation_id: str, writer: Writer, *, limit: int) -> Claim:
        """Become the only writer; see `ConversationStore.claim`."""
        (part, _, _, next_position, _, _), *rows = await self._fetch(
            _CLAIM, [conversation_id, writer.run_id, writer.fencing_token, limit]
        )
        if part == "fenced":
            raise _fenced(conversation_id, writer)
        own = [row[1:] for row in rows if row[0] == "own"]
        earlier = [row[1:] for row in rows if row[0] == "earlier"]
        readable = tuple(_decoded(own, conversation_id))
        return Claim(
            earlier=tuple(_decoded(earlier[::-1], conversation_id)),
            own=readable,
            next_position=next_position,
            unreadable=len(own) - len(readable),
        )

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        """Append, each message once; see `ConversationStore.append`."""
        if not messages:
            return []
        if writer is not None:
            _check_positions(messages, writer)
        [(status, expected, numbers)] = await self._fetch(
            _APPEND,
            [
                conversation_id,
                writer.run_id if writer is not None else None,
                writer.fencing_token if writer is not None else None,
                None if is_alone(conversation_id) else self._ttl_s,
                self._max_messages,
                [_column(message.run_id) for message in messages],
                [message.position for message in messages],
                [message.role.value for message in messages],
                [message.kind.value for message in messages],
                [encode(message) for message in messages],
            ],
        )
        if writer is not None and status == "fenced":
            raise _fenced(conversation_id, writer)
        if writer is not None and status == "gap":
            raise PositionGapError(
                f"Run {writer.run_id} wrote {expected} messages so far; position "
                f"{messages[0].position} would leave a gap."
            )
        return ["" if number is None else _cursor(number) for number in numbers]

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
        low = 0 if after is None else _number(after)
        high = _LARGEST if before is None else _number(before)
        newest_first = after is None and limit is not None
        filters, values = _filters(roles, run_id)
        order: LiteralString = "DESC" if newest_first else "ASC"
        found: list[Message] = []
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(limit - len(found), _PAGE)
            rows = await self._fetch(
                _READ,
                [conversation_id, low, high, conversation_id, *values, size],
                filters=filters,
                order=order,
            )
            found += _decoded(rows, conversation_id)
            if len(rows) < size:
                break
            if newest_first:
                high = rows[-1][0]
            else:
                low = rows[-1][0]
        return found[::-1] if newest_first else found

    async def has_message(self, conversation_id: str, cursor: str) -> bool:
        """Whether a message is still there; see `ConversationStore.has_message`."""
        wanted = [conversation_id, _number(cursor), conversation_id]
        return bool(await self._fetch(_HAS, wanted))

    async def retract(self, conversation_id: str, writer: Writer) -> int:
        """Remove what a run wrote; see `ConversationStore.retract`."""
        [(status, removed)] = await self._fetch(
            _RETRACT, [conversation_id, writer.run_id, writer.fencing_token]
        )
        if status == "fenced":
            raise _fenced(conversation_id, writer)
        return int(removed)

    async def expire(self, conversation_id: str, ttl_s: float) -> None:
        """Forget a conversation after a while; see `ConversationStore.expire`."""
        await self._fetch(_EXPIRE, [conversation_id, ttl_s])

    async def clear(self, conversation_id: str) -> int:
        """Remove all messages; see `ConversationStore.clear`."""
        [(removed,)] = await self._fetch(_CLEAR, [conversation_id])
        return int(removed)

    async def remove(self, conversation_id: str, cursor: str) -> bool:
        """Remove one message; see `ConversationStore.remove`."""
        [(removed,)] = await self._fetch(_REMOVE, [conversation_id, _number(cursor)])
        return bool(removed)

    async def delete(self, conversation_id: str) -> int:
        """Forget a conversation; see `ConversationStore.delete`."""
        [(removed,)] = await self._fetch(_DELETE, [conversation_id, DELETED_FENCE_S])
        return int(removed)

    async def count(self, conversation_id: str) -> int:
        """How many messages there are; see `ConversationStore.count`."""
        rows = await self._fetch(_COUNT, [conversation_id])
        return int(rows[0][0]) if rows else 0

    async def conversation_ids(self) -> AsyncIterator[str]:
        """All conversations, by their ids; see `ConversationStore.conversation_ids`."""
        last = ""
        while page := await self._fetch(_IDS, [last, _PAGE]):
            for (conversation_id,) in page:
                yield conversation_id
            last = page[-1][0]

    async def aclose(self) -> None:
        """End notifications and close all connections."""
        if self._preparing is not None:
            self._preparing.cancel()
        await self._notifications.aclose()
        await self._client.aclose()

    def _on_prepared(self, preparing: asyncio.Task[None]) -> None:
        self._preparing = None
        # Looked at here as well: whoever waited for it may have been cancelled.
        self._is_prepared = not preparing.cancelled() and preparing.exception() is None

    async def _fetch(
        self, statement: LiteralString, parameters: Sequence[Any], **parts: LiteralString
    ) -> list[Any]:
        if not self._is_prepared:
            await self.prepare()
        try:
            return await self._client.fetch(self._schema.statement(statement, **parts), parameters)
        except StoreUnavailableError as error:
            if getattr(error.__cause__, "sqlstate", None) in GONE:
                self._is_prepared = False
            raise


def open_postgres(url: str, settings: Settings) -> PostgresConversationStore:
    """Conversations in the PostgreSQL of a URL, in the schema of the settings' key prefix.

    Connects on first use.

    Raises:
        ConfigurationError: It is no URL of PostgreSQL.
    """
    timeout_s = settings.conversation_timeout_s
    client = PostgresClient(
        parse_postgres_url(url, timeout_s=timeout_s),
        timeout_s=timeout_s,
        connections=settings.conversation_connections,
    )
    return PostgresConversationStore(
        client,
        PostgresSchema(settings.key_prefix),
        ttl_s=settings.conversation_ttl_s,
        max_messages=settings.conversation_max_messages,
    )


def _filters(roles: Collection[Role] | None, run_id: str | None) -> tuple[LiteralString, list[Any]]:
    """What is asked for beside a range, and the values for it."""
    filters: LiteralString = ""
    values: list[Any] = []
    if roles is not None:
        filters += " AND role = ANY(%s::text[])"
        values.append([Role(role).value for role in roles])
    if run_id is not None:
        filters += " AND run_id = %s"
        values.append(_column(run_id))
    return filters, values


def _cursor(number: int) -> str:
    return f"p{number}"


def _number(cursor: object) -> int:
    """The number that a cursor names.

    Raises:
        InvalidCursorError: It is not one of this store; those of Redis or of memory are none.
    """
    match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if match is None or int(match[1]) > _LARGEST:
        raise InvalidCursorError(
            f"{str(cursor)[:60]!r} is not a cursor of this store; pass the `cursor` of something "
            "it returned. Those of another store mean nothing here."
        )
    return int(match[1])


def _column(run_id: str | None) -> str | None:
    """A run id as a column holds it. Ours are plain; what was imported may be anything."""
    return None if run_id is None else storable(run_id).replace("\x00", "\ufffd")


def _decoded(rows: Sequence[_Row], conversation_id: str) -> Iterator[Message]:
    """Decode rows; one that cannot be read is reported and left out.

    Raises:
        NewerVersionError: One of them is whole, but for newer readers.
    """
    for number, run_id, position, role, data in rows:
        cursor = _cursor(number)
        try:
            message = decode_message(data, cursor=cursor)
            _check_same(message, run_id, position, role)
            yield message
        except NewerVersionError:
            raise
        except CorruptEntryError as error:
            log.error(
                "entry.unreadable",
                conversation_id=conversation_id,
                cursor=cursor,
                error=type(error).__name__,
            )


def _check_same(message: Message, run_id: str | None, position: int, role: str) -> None:
    """Routines and filters go by the columns beside a message.

    Raises:
        CorruptEntryError: They tell of another message than the one that is there.
    """
    if (run_id, position, role) != (
        _column(message.run_id),
        message.position,
        message.role.value,
    ):
        raise CorruptEntryError(f"The entry at {message.cursor} contradicts its own columns.")


def _check_positions(messages: Sequence[Message], writer: Writer) -> None:
    first = messages[0].position
    for offset, message in enumerate(messages):
        if message.run_id != writer.run_id or message.position != first + offset:
            raise PositionGapError(
                f"Messages of one append must be of run {writer.run_id} and have consecutive "
                f"positions; found position {message.position} of run {message.run_id}."
            )


def _fenced(conversation_id: str, writer: Writer) -> FencedError:
    return FencedError(
        f"Run {writer.run_id} may not write to {conversation_id} with fencing token "
        f"{writer.fencing_token}: a newer one exists. Another worker leads the run now."
    )
