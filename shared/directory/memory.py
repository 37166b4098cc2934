"""The directory in the memory of this process: for local mode and fast tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import JsonValue

from shared.codec import stored_form
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
from shared.directory.record_table import RecordTable
from shared.directory.session import ConversationId, SessionId


@dataclass(slots=True)
class _Session:
    current: int = 0
    last: int = 0
    generations: set[int] = field(default_factory=set)


class MemoryConversationDirectory:
    """See `ConversationDirectory`: the reference for what every other directory does.

    `records` are those that the ledger writes to; `active_run` answers which run holds a
    conversation. Not safe to use from several threads or event loops: between two awaits of its
    only loop, each method is atomic because nothing else runs.
    """

    def __init__(self, records: RecordTable, active_run: Callable[[str], str | None]) -> None:
        self._records = records
        self._active_run = active_run
        self._sessions: dict[str, _Session] = {}
        self._begun: dict[str, None] = {}  # the oldest beginning first

    async def open(
        self,
        session: SessionId,
        *,
        user: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        idle_s: float | None = None,
    ) -> ConversationRecord:
        known = self._sessions.setdefault(str(session), _Session())
        record = self._records.find(str(ConversationId(session, known.current or 1)))
        if record is not None and known.current in known.generations:
            if idle_s is not None and self._is_idle(record, idle_s):
                self._close(record)
            elif record.active:
                return record
        known.last += 1
        known.current = known.last
        new = NewRecord(
            id=str(ConversationId(session, known.current)),
            user=session.user or user,
            title=title,
            metadata=dict(metadata or {}),
        )
        return self._make(new, known)

    async def get(self, conversation_id: str) -> ConversationRecord:
        record = self._records.find(conversation_id)
        if record is None:
            raise unknown(conversation_id)
        return record

    async def update(
        self,
        conversation_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> ConversationRecord:
        record = await self.get(conversation_id)
        changes: dict[str, Any] = {}
        if title is not None:
            changes["title"] = title or None
        if metadata is not None:
            changes["metadata"] = dict(metadata)
        return self._records.put(stored_form(record.model_copy(update=changes)))

    async def list_records(
        self, where: RecordFilter = EVERY_RECORD, *, limit: int = 50, after: str | None = None
    ) -> RecordPage:
        place = parse_place(after) if after is not None else None
        passing = [record for record in self._records.all() if where.passes(record)]
        behind = sorted(
            (record for record in passing if place is None or _place(record) < place),
            key=_place,
            reverse=True,
        )
        page = tuple(behind[:limit])
        if len(behind) <= limit:
            return RecordPage(page)
        return RecordPage(page, format_place(_place(page[-1])) if page else after)

    async def deactivate(self, conversation_id: str) -> ConversationRecord:
        return self._close(await self.get(conversation_id))

    async def expire(self, conversation_id: str, idle_s: float) -> bool:
        record = await self.get(conversation_id)
        if not record.active or not self._is_idle(record, idle_s):
            return False
        self._close(record)
        return True

    async def reserve(
        self, session: SessionId, parent: Parent, source: ConversationRecord | None = None
    ) -> ConversationRecord:
        known = self._sessions.setdefault(str(session), _Session())
        known.last += 1
        new = NewRecord(
            id=str(ConversationId(session, known.last)),
            user=session.user or (source.user if source else None),
            title=source.title if source else None,
            metadata=source.metadata if source else {},
            parent=parent,
        )
        self._begun[new.id] = None
        made = self._make(new, known)
        closed = {"work": Work.FORK, "deactivated_at": made.created_at}
        return self._records.put(made.model_copy(update=closed))

    async def activate(self, conversation_id: str) -> ConversationRecord:
        conversation = ConversationId.parse(conversation_id)
        record = await self.get(conversation_id)
        if record.work is not Work.FORK:
            return record
        del self._begun[conversation_id]
        known = self._sessions[str(conversation.session)]
        known.current = max(known.current, conversation.generation)
        opened = {
            "work": None,
            "deactivated_at": None,
            "last_activity_at": self._records.now(),
        }
        return self._records.put(record.model_copy(update=opened))

    async def begin(
        self, conversation_id: str, work: Work, *, idle_s: float | None = None
    ) -> ConversationRecord:
        record = await self.get(conversation_id)
        if (active := self._active_run(conversation_id)) is not None:
            raise busy(conversation_id, active)
        if record.work not in {None, work} and work is not Work.PURGE:
            raise other_work(conversation_id, record.work)
        if idle_s is not None and not self._is_idle(record, idle_s):
            raise busy(conversation_id, "")
        self._begun.setdefault(conversation_id)
        return self._records.put(self._close(record).model_copy(update={"work": work}))

    async def end_archiving(self, conversation_id: str, archive: str) -> ConversationRecord:
        record = await self.get(conversation_id)
        if record.work is not Work.ARCHIVE:
            if record.archived != archive:
                raise other_work(conversation_id, record.work)
            return record
        del self._begun[conversation_id]
        return self._records.put(record.model_copy(update={"work": None, "archived": archive}))

    async def forget(self, conversation_id: str) -> None:
        conversation = ConversationId.parse(conversation_id)
        name = str(conversation.session)
        known = self._sessions.get(name)
        if known is not None:
            known.generations.discard(conversation.generation)
            if not known.generations:
                del self._sessions[name]
        self._begun.pop(conversation_id, None)
        self._records.remove(conversation_id)

    async def list_unfinished(self, *, limit: int = 100) -> list[ConversationRecord]:
        return [await self.get(conversation_id) for conversation_id in list(self._begun)[:limit]]

    def _make(self, new: NewRecord, known: _Session) -> ConversationRecord:
        now = self._records.now()
        fields = {name: getattr(new, name) for name in NewRecord.model_fields}
        known.generations.add(new.conversation.generation)
        return self._records.put(
            stored_form(ConversationRecord(**fields, created_at=now, last_activity_at=now))
        )

    def _is_idle(self, record: ConversationRecord, idle_s: float) -> bool:
        idle = self._records.now() - record.last_activity_at
        return idle >= timedelta(seconds=idle_s) and self._active_run(record.id) is None

    def _close(self, record: ConversationRecord) -> ConversationRecord:
        if not record.active:
            return record
        closed = {"deactivated_at": self._records.now()}
        return self._records.put(record.model_copy(update=closed))


def _place(record: ConversationRecord) -> Place:
    return milliseconds_of(record.last_activity_at), record.id
