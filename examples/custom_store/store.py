"""The store: reads a record from the key-value file, changes it, writes it back, and hints at it.

    store = DbmConversationStore("chat")          # chat.dat and chat.dir
    store = conversation_from_url("dbm:chat")     # where the scheme is registered, see the docs

One process at a time. A value is written as a whole, so readers see an append whole or not at all;
a machine that loses power may lose the latest ones, since `dbm.dumb` does not sync.
"""

import asyncio
import dbm.dumb
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import structlog

from examples.custom_store.record import Entry, Record
from shared.codec import decode_message
from shared.conversation.protocol import Claim, Writer
from shared.errors import CorruptEntryError, InvalidCursorError, NewerVersionError
from shared.identifier import is_alone
from shared.message import Message, Role
from shared.notification.memory import MemoryNotifications
from shared.settings import Settings

log = structlog.get_logger()

Value = TypeVar("Value")

_CURSOR: Final = re.compile(r"n[0-9]{1,18}")


class DbmConversationStore:
    """See `shared.conversation.protocol.ConversationStore`."""

    is_distributed = False
    record_type: type[Record] = Record

    def __init__(self, path: str | Path) -> None:
        self._file = dbm.dumb.open(str(path), "c")  # noqa: SIM115 - `aclose` closes it
        self._lock = threading.Lock()
        self._notifications = MemoryNotifications()

    @property
    def notifications(self) -> MemoryNotifications:
        """Hints within this process."""
        return self._notifications

    def topic(self, conversation_id: str) -> str:
        """Where changes of this conversation are announced."""
        return conversation_id

    async def claim(self, conversation_id: str, writer: Writer, *, limit: int) -> Claim:
        """See the protocol."""
        record, _ = await self._change(conversation_id, lambda record: record.claim(writer))
        own = record.own(writer.run_id)
        earlier = [entry for entry in record.entries if not own or entry.number < own[0].number]
        readable = self._decoded(conversation_id, own)
        newest = self._decoded(conversation_id, earlier[max(0, len(earlier) - limit) :])
        return Claim(tuple(newest), tuple(readable), record.next_position, len(own) - len(readable))

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        """See the protocol."""
        _, cursors = await self._change(
            conversation_id, lambda record: record.append(messages, writer)
        )
        self._hint(conversation_id)
        return cursors

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
        """See the protocol."""
        first = _number(after) + 1 if after is not None else 0
        end = _number(before) if before is not None else None
        found = [
            entry
            for entry in (await self._read(conversation_id)).entries
            if entry.number >= first
            and (end is None or entry.number < end)
            and (roles is None or entry.role in roles)
            and (run_id is None or entry.run_id == run_id)
        ]
        if after is not None or limit is None:
            return self._decoded(conversation_id, found, limit)
        return self._decoded(conversation_id, reversed(found), limit)[::-1]

    async def has_message(self, conversation_id: str, cursor: str) -> bool:
        """See the protocol."""
        number = _number(cursor)
        return any(each.number == number for each in (await self._read(conversation_id)).entries)

    async def retract(self, conversation_id: str, writer: Writer) -> int:
        """See the protocol."""
        _, removed = await self._change(conversation_id, lambda record: record.retract(writer))
        self._hint(conversation_id)
        return removed

    async def expire(self, conversation_id: str, ttl_s: float) -> None:
        """See the protocol."""

        def expire(record: Record) -> None:
            record.expires_at = time.time() + ttl_s

        await self._change(conversation_id, expire)

    async def clear(self, conversation_id: str) -> int:
        """See the protocol."""
        _, removed = await self._change(conversation_id, lambda record: record.clear())
        self._hint(conversation_id)
        return removed

    async def remove(self, conversation_id: str, cursor: str) -> bool:
        """See the protocol."""
        _number(cursor)
        _, removed = await self._change(conversation_id, lambda record: record.remove(cursor))
        self._hint(conversation_id)
        return removed

    async def delete(self, conversation_id: str) -> int:
        """See the protocol."""
        _, removed = await self._change(conversation_id, lambda record: record.delete())
        self._hint(conversation_id)
        return removed

    async def count(self, conversation_id: str) -> int:
        """See the protocol."""
        return len((await self._read(conversation_id)).entries)

    async def conversation_ids(self) -> AsyncIterator[str]:
        """See the protocol."""
        for name in await asyncio.to_thread(self._names):
            if not is_alone(name) and (await self._read(name)).entries:
                yield name

    async def aclose(self) -> None:
        """Close the file; again is harmless."""
        with self._lock:
            self._file.close()

    # --- the file ---------------------------------------------------------------------------------

    async def _change(
        self, conversation_id: str, change: Callable[[Record], Value]
    ) -> tuple[Record, Value]:
        """Read, change and write in one step; a change that raises writes nothing."""

        def step() -> tuple[Record, Value]:
            with self._lock:
                record = self._load(conversation_id)
                answer = change(record)
                self._file[conversation_id.encode()] = record.model_dump_json().encode()
                return record, answer

        return await asyncio.to_thread(step)

    async def _read(self, conversation_id: str) -> Record:
        def step() -> Record:
            with self._lock:
                return self._load(conversation_id)

        return await asyncio.to_thread(step)

    def _names(self) -> list[str]:
        with self._lock:
            keys: Iterable[bytes] = self._file.iterkeys()
            return [key.decode() for key in keys]

    def _load(self, conversation_id: str) -> Record:
        stored = self._file.get(conversation_id.encode())
        record = self.record_type.model_validate_json(stored) if stored else self.record_type()
        return self.record_type() if record.is_expired else record

    def _hint(self, conversation_id: str) -> None:
        # Back in the event loop, and behind the write: who hears it finds the change.
        self._notifications.publish(self.topic(conversation_id), "changed")

    def _decoded(
        self, conversation_id: str, entries: Iterable[Entry], limit: int | None = None
    ) -> list[Message]:
        """The first `limit` messages that can be read. Only what is looked at may raise."""
        messages: list[Message] = []
        for entry in entries:
            if limit is not None and len(messages) >= limit:
                break
            try:
                messages.append(decode_message(entry.stored, cursor=entry.cursor))
            except NewerVersionError:
                raise  # it is whole: a history without it would be another history
            except CorruptEntryError:
                log.error("entry.unreadable", conversation_id=conversation_id, cursor=entry.cursor)
        return messages


def open_url(url: str, _settings: Settings) -> DbmConversationStore:
    """Open what ``dbm:<path>`` names: the function for an entry point of the scheme."""
    return DbmConversationStore(url.partition(":")[2])


def _number(cursor: str) -> int:
    if not _CURSOR.fullmatch(cursor):
        raise InvalidCursorError(f"{cursor[:60]!r} is no cursor; pass one that a message carries.")
    return int(cursor[1:])
