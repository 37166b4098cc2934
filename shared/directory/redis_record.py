"""Between a conversation's hash in Redis and a `ConversationRecord`."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from shared.codec import decode
from shared.directory.record import ConversationRecord, NewRecord, Work
from shared.errors import CorruptEntryError
from shared.message import Usage
from shared.money import from_units

_UNREADABLE: Final = (ValueError, LookupError, TypeError, ArithmeticError, OSError)


def read_record(conversation_id: str, stored: Mapping[str, str]) -> ConversationRecord:
    """Build a record from its hash.

    Raises:
        CorruptEntryError: The hash is not this conversation's record.
    """
    where = f"The record of conversation {conversation_id}"
    try:
        return _build(decode(NewRecord, stored["new"], where=where), conversation_id, stored)
    except _UNREADABLE as error:
        if isinstance(error, CorruptEntryError):
            raise
        raise CorruptEntryError(f"{where} cannot be read ({type(error).__name__}).") from error


def _build(new: NewRecord, conversation_id: str, stored: Mapping[str, str]) -> ConversationRecord:
    if new.id != conversation_id:
        raise LookupError(new.id)
    changed: dict[str, Any] = {
        "title": stored.get("title") or None,
        "metadata": json.loads(stored.get("metadata", "{}")),
    }
    return ConversationRecord.model_validate(
        {
            "id": new.id,
            "user": new.user,
            "parent": new.parent,
            **changed,
            "created_at": _moment(stored["created"]),
            "last_activity_at": _moment(stored["activity"]),
            "deactivated_at": _moment(stored["deactivated"]) if "deactivated" in stored else None,
            "archived": stored.get("archived"),
            "work": Work(stored["work"]) if "work" in stored else None,
            "runs": int(stored.get("runs", 0)),
            "usage": Usage(**{name: int(stored.get(name, 0)) for name in Usage.model_fields}),
            "known_cost": from_units(int(stored.get("cost", 0))),
            "unpriced_runs": int(stored.get("unpriced", 0)),
        }
    )


def _moment(stored: str) -> datetime:
    return datetime.fromtimestamp(int(stored) / 1000, UTC)
