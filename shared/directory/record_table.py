"""The records of managed conversations, in memory: what a ledger and its directory share."""

from collections.abc import Mapping
from datetime import datetime

from shared.directory.record import ConversationRecord
from shared.memory.clock import Clock
from shared.message import Usage
from shared.money import from_units


class RecordTable:
    """Records by id. It stores what it is given and decides nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._records: dict[str, ConversationRecord] = {}

    def now(self) -> datetime:
        """The time, to the millisecond, as other stores have it."""
        now = self._clock()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def find(self, conversation_id: str | None) -> ConversationRecord | None:
        """The record of a conversation, if it has one."""
        return self._records.get(conversation_id) if conversation_id is not None else None

    def put(self, record: ConversationRecord) -> ConversationRecord:
        """Put a newer version of a record in the place of the one there is, if any."""
        self._records[record.id] = record
        return record

    def remove(self, conversation_id: str) -> None:
        """Drop a record; harmless where there is none."""
        self._records.pop(conversation_id, None)

    def all(self) -> list[ConversationRecord]:
        """Every record, in no particular order."""
        return list(self._records.values())

    def is_closed(self, conversation_id: str | None) -> bool:
        """Whether there is a record that says that the conversation takes no runs."""
        record = self.find(conversation_id)
        return record is not None and not record.active

    def touch(self, conversation_id: str | None) -> None:
        """Note that something has happened in a conversation, if it has a record."""
        if (record := self.find(conversation_id)) is not None:
            self.put(record.model_copy(update={"last_activity_at": self.now()}))

    def count(self, conversation_id: str | None, totals: Mapping[str, int]) -> None:
        """Count a run that ends now; `totals` as `totals_of` gives them."""
        record = self.find(conversation_id)
        if record is None:
            return
        took = Usage(**{name: totals.get(name, 0) for name in Usage.model_fields})
        changes = {
            "last_activity_at": self.now(),
            "runs": record.runs + 1,
            "usage": record.usage + took,
            "known_cost": record.known_cost + from_units(totals.get("cost", 0)),
            "unpriced_runs": record.unpriced_runs + totals.get("unpriced", 0),
        }
        self.put(record.model_copy(update=changes))
