"""The directory in Redis: a hash for each record, beside the runs of its conversation."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from pydantic import JsonValue
from redis.asyncio import Redis

from shared.codec import encode, storable
from shared.directory.cursor import Place, format_place, milliseconds_of, parse_place
from shared.directory.fault import busy, other_work, unknown
from shared.directory.record import (
    EVERY_RECORD,
    ConversationRecord,
    NewRecord,
    Parent,
    RecordFilter,
    RecordPage,
    Work,
)
from shared.directory.redis_record import read_record
from shared.directory.session import ConversationId, SessionId
from shared.errors import CorruptEntryError
from shared.redis_client import Replicas, Script, checked_answers, script_source, translated_errors
from shared.redis_keys import Keys

log = structlog.get_logger()

_SCRIPTS: Final = (
    "advance",
    "settle",
    "leave",
    "open",
    "update",
    "close",
    "begin",
    "end_work",
    "forget",
)
_PAGE: Final = 100
"""Records that one look reads, where filters may leave some of them out."""


class RedisConversationDirectory:
    """See `ConversationDirectory`.

    A record lies in the partition of its conversation, so that the scripts of the ledger change it
    together with a run. A session lies in the partition of its first conversation, its other
    conversations anywhere: what spans the two is made so that whoever comes next completes it.
    """

    def __init__(self, client: Redis, keys: Keys, *, replicas: Replicas | None = None) -> None:
        self._client = client
        self._keys = keys
        self._scripts = {
            name: Script(client, script_source("directory", name), replicas=replicas)
            for name in _SCRIPTS
        }

    async def open(
        self,
        session: SessionId,
        *,
        user: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        idle_s: float | None = None,
    ) -> ConversationRecord:
        """The conversation that takes inputs now; see `ConversationDirectory.open`."""
        key = self._keys.session(str(session))
        idle = _idle_ms(idle_s)
        while True:
            current, mark = await self._current(key)
            if mark is not None:
                new = NewRecord(
                    id=str(ConversationId(session, current)),
                    user=session.user or user,
                    title=title,
                    metadata=dict(metadata or {}),
                )
                answer = await self._make(new, idle=idle, may_make=mark == "new")
                if mark == "new" and answer[0] != "absent":
                    await self._scripts["settle"]([key], [current])
                if answer[0] == "open":
                    return _record(new.id, answer[1])
            await self._scripts["advance"]([key], [current, 0])

    async def get(self, conversation_id: str) -> ConversationRecord:
        """Read a record; see `ConversationDirectory.get`."""
        with translated_errors():
            stored: Any = await self._client.hgetall(self._keys.record(conversation_id))
        if not stored:
            raise unknown(conversation_id)
        return read_record(conversation_id, stored)

    async def update(
        self,
        conversation_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> ConversationRecord:
        """Replace title or metadata; see `ConversationDirectory.update`."""
        fields: list[str] = []
        if title is not None:
            fields += ["title", storable(title)]
        if metadata is not None:
            fields += ["metadata", _json(metadata)]
        answer = await self._scripts["update"]([self._keys.record(conversation_id)], fields)
        return _found(conversation_id, answer)

    async def list_records(
        self, where: RecordFilter = EVERY_RECORD, *, limit: int = 50, after: str | None = None
    ) -> RecordPage:
        """Records, newest activity first; see `ConversationDirectory.list_records`."""
        indexes = self._indexes(where)
        place = parse_place(after) if after is not None else None
        found: list[ConversationRecord] = []
        size = max(limit + 1, _PAGE)
        while places := await self._places(indexes, size, place, where):
            records = await self._records([conversation_id for _, conversation_id in places])
            for each, record in zip(places, records, strict=True):
                if record is not None and where.passes(record):
                    if len(found) >= limit:
                        return RecordPage(tuple(found), format_place(place) if place else after)
                    found.append(record)
                place = each
        return RecordPage(tuple(found))

    async def deactivate(self, conversation_id: str) -> ConversationRecord:
        """Take no further runs; see `ConversationDirectory.deactivate`."""
        return _found(conversation_id, await self._close(conversation_id, ""))

    async def expire(self, conversation_id: str, idle_s: float) -> bool:
        """Close it if it is idle; see `ConversationDirectory.expire`."""
        answer = await self._close(conversation_id, _idle_ms(idle_s))
        _found(conversation_id, answer)
        return bool(answer[0] == "closed")

    async def reserve(
        self, session: SessionId, parent: Parent, source: ConversationRecord | None = None
    ) -> ConversationRecord:
        """Make the next generation for a fork; see `ConversationDirectory.reserve`."""
        key = self._keys.session(str(session))
        generation = await self._scripts["advance"]([key], [0, 1])
        new = NewRecord(
            id=str(ConversationId(session, int(generation))),
            user=session.user or (source.user if source else None),
            title=source.title if source else None,
            metadata=source.metadata if source else {},
            parent=parent,
        )
        answer = await self._make(new, idle="", may_make=True, work=Work.FORK)
        return _record(new.id, answer[1])

    async def activate(self, conversation_id: str) -> ConversationRecord:
        """Open a reserved conversation; see `ConversationDirectory.activate`."""
        # First, so that whoever opens the session from now on finds a record to wait for.
        conversation = ConversationId.parse(conversation_id)
        answer = await self._end_work(conversation_id, Work.FORK, "")
        record = _found(conversation_id, answer)
        if answer[0] == "done" or record.active:
            key = self._keys.session(str(conversation.session))
            await self._scripts["settle"]([key], [conversation.generation])
        return record

    async def begin(
        self, conversation_id: str, work: Work, *, idle_s: float | None = None
    ) -> ConversationRecord:
        """Note what is being done with it; see `ConversationDirectory.begin`."""
        answer = await self._scripts["begin"](
            [self._keys.record(conversation_id)],
            [
                self._keys.tag_of_history(conversation_id),
                conversation_id,
                work.value,
                _idle_ms(idle_s),
            ],
        )
        if answer[0] == "busy":
            raise busy(conversation_id, answer[1])
        if answer[0] == "other":
            raise other_work(conversation_id, answer[1])
        return _found(conversation_id, answer)

    async def end_archiving(self, conversation_id: str, archive: str) -> ConversationRecord:
        """Note where its messages are; see `ConversationDirectory.end_archiving`."""
        answer = await self._end_work(conversation_id, Work.ARCHIVE, archive)
        record = _found(conversation_id, answer)
        if answer[0] == "other" and record.archived != archive:
            raise other_work(conversation_id, record.work)
        return record

    async def forget(self, conversation_id: str) -> None:
        """Delete the record; see `ConversationDirectory.forget`."""
        conversation = ConversationId.parse(conversation_id)
        # The session first: who is cut off in between finds the record again, and not the session.
        key = self._keys.session(str(conversation.session))
        await self._scripts["leave"]([key], [conversation.generation])
        await self._forget_unmade(key, conversation.session)
        await self._scripts["forget"](
            [self._keys.record(conversation_id)],
            [self._keys.tag_of_history(conversation_id), conversation_id],
        )

    async def list_unfinished(self, *, limit: int = 100) -> list[ConversationRecord]:
        """Work that is not done; see `ConversationDirectory.list_unfinished`."""
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for tag in self._keys.tags():
                    pipeline.zrange(self._keys.unfinished(tag), 0, limit - 1, withscores=True)
                pages = checked_answers(await pipeline.execute(raise_on_error=False))
        begun = sorted((score, name) for page in pages for name, score in page or ())
        records = await self._records([name for _, name in begun[:limit]])
        return [record for record in records if record is not None and record.work is not None]

    async def _forget_unmade(self, key: str, session: SessionId) -> None:
        """Take generations out of a session whose maker died before they had a record.

        They would keep the session from being forgotten. One that is being made just now comes back
        with its record.
        """
        with translated_errors():
            marks: Any = await self._client.hgetall(key)
        for name, mark in marks.items():
            generation = name.removeprefix("g:")
            if mark != "new" or generation == name:
                continue
            record = self._keys.record(str(ConversationId(session, int(generation))))
            with translated_errors():
                is_made = await self._client.exists(record)
            if not is_made:
                await self._scripts["leave"]([key], [generation])

    async def _current(self, key: str) -> tuple[int, str | None]:
        """The generation that takes the session's inputs, and how far it is made."""
        with translated_errors():
            stored: Any = await self._client.hgetall(key)
        current = int(stored.get("current", 0))
        return current, stored.get(f"g:{current}")

    async def _make(
        self, new: NewRecord, *, idle: int | str, may_make: bool, work: Work | None = None
    ) -> Any:
        return await self._scripts["open"](
            [self._keys.record(new.id)],
            [
                self._keys.tag_of_history(new.id),
                new.id,
                # Title and metadata change, so they stand beside it.
                encode(new.model_copy(update={"title": None, "metadata": {}})),
                new.user or "",
                new.session_id.agent,
                new.session_id.channel,
                storable(new.title or ""),
                _json(new.metadata),
                idle,
                work.value if work else "",
                int(may_make),
            ],
        )

    async def _close(self, conversation_id: str, idle: int | str) -> Any:
        return await self._scripts["close"](
            [self._keys.record(conversation_id)],
            [self._keys.tag_of_history(conversation_id), conversation_id, idle],
        )

    async def _end_work(self, conversation_id: str, work: Work, archive: str) -> Any:
        return await self._scripts["end_work"](
            [self._keys.record(conversation_id)],
            [self._keys.tag_of_history(conversation_id), conversation_id, work.value, archive],
        )

    def _indexes(self, where: RecordFilter) -> list[str]:
        """The indexes, one of each partition, that hold few records besides those wanted."""
        tags = self._keys.tags()
        if where.user is not None:
            return [self._keys.by_user(tag, where.user) for tag in tags]
        if where.active:
            return [self._keys.open(tag) for tag in tags]
        if where.archived is False:
            return [self._keys.here(tag) for tag in tags]
        if where.agent is not None:
            return [self._keys.by_agent(tag, where.agent) for tag in tags]
        if where.channel is not None:
            return [self._keys.by_channel(tag, where.channel) for tag in tags]
        return [self._keys.records(tag) for tag in tags]

    async def _places(
        self, indexes: Sequence[str], size: int, before: Place | None, where: RecordFilter
    ) -> list[Place]:
        """The newest entries of all indexes together that stand behind `before`."""
        # A millisecond more on each side: the filter knows the bounds exactly.
        since, end = where.active_since, where.active_until
        low = "-inf" if since is None else milliseconds_of(since) - 1
        until = "+inf" if end is None else milliseconds_of(end) + 1
        high = until if before is None else f"({before[0]}"
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in indexes:
                    if before is not None:
                        # Entries of its very millisecond may stand on both of its sides.
                        pipeline.zrangebyscore(key, before[0], before[0], withscores=True)
                    pipeline.zrevrangebyscore(key, high, low, start=0, num=size, withscores=True)
                pages = checked_answers(await pipeline.execute(raise_on_error=False))
        places = {(int(score), name) for page in pages for name, score in page or ()}
        behind = [place for place in places if before is None or place < before]
        return sorted(behind, reverse=True)[:size]

    async def _records(self, conversation_ids: Sequence[str]) -> list[ConversationRecord | None]:
        """The records; None for one that is gone, or that cannot be read, which is reported."""
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for conversation_id in conversation_ids:
                    pipeline.hgetall(self._keys.record(conversation_id))
                answers = checked_answers(await pipeline.execute(raise_on_error=False))
        records: list[ConversationRecord | None] = []
        for conversation_id, stored in zip(conversation_ids, answers, strict=True):
            try:
                records.append(read_record(conversation_id, stored) if stored else None)
            except CorruptEntryError as error:
                log.error(
                    "entry.unreadable",
                    conversation_id=conversation_id,
                    error=type(error).__name__,
                )
                records.append(None)
        return records


def _found(conversation_id: str, answer: Any) -> ConversationRecord:
    if answer[0] == "unknown":
        raise unknown(conversation_id)
    return _record(conversation_id, answer[1])


def _record(conversation_id: str, flat: Sequence[str]) -> ConversationRecord:
    return read_record(conversation_id, dict(zip(flat[::2], flat[1::2], strict=True)))


def _idle_ms(idle_s: float | None) -> int | str:
    return "" if idle_s is None else max(0, int(idle_s * 1000))


def _json(metadata: Mapping[str, JsonValue]) -> str:
    return json.dumps(storable(dict(metadata)))
