"""What a seal is bound to: the facts beside it that nobody may change without breaking it.

Facts are a list of strings, integers and nulls in a fixed order. As associated data they are JSON
without spaces, in ASCII: two different lists never have the same form, whatever is in the strings.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.event import DeltaEvent
from shared.message import Message
from shared.run import NewRun, RunStatus

Fact = str | int | None | list[str]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def canonical(facts: Sequence[Fact]) -> bytes:
    """The one form of these facts."""
    return json.dumps(list(facts), separators=(",", ":"), ensure_ascii=True).encode("ascii")


def facts_of_message(conversation_id: str, message: Message) -> list[Fact]:
    """Where a message stands and what everybody may know of it, but for its seal."""
    return [
        "message",
        conversation_id,
        message.id,
        message.run_id,
        message.position,
        message.role.value,
        message.kind.value,
        _moment(message.created_at),
        message.version,
    ]


def facts_of_request(new: NewRun) -> list[Fact]:
    """Who was asked, where, and under which conditions."""
    return [
        "request",
        new.id,
        new.conversation_id,
        new.agent,
        new.idempotency_key,
        new.priority,
        new.on_busy.value,
        new.version,
    ]


def facts_of_outcome(new: NewRun, status: RunStatus) -> list[Fact]:
    """Which run ended, and how."""
    return ["outcome", new.id, new.conversation_id, new.agent, status.value]


def facts_of_delta(event: DeltaEvent) -> list[Fact]:
    """Which message of which attempt a piece of text belongs to."""
    return ["delta", event.run_id, event.attempt, event.position]


def _moment(when: datetime) -> Fact:
    """Microseconds since 1970, whatever zone it is told in; a time without a zone stays one."""
    if when.tzinfo is None:
        return f"{(when - _EPOCH.replace(tzinfo=None)) // _MICROSECOND} without zone"
    return (when - _EPOCH) // _MICROSECOND
