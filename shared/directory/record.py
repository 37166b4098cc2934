"""Records: what is known of a managed conversation besides its messages."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from shared.directory.session import ConversationId, Mode, SessionId
from shared.message import Usage
from shared.money import Usd, format_usd, to_units
from shared.run import Ending

_DERIVED: Final = ("session", "generation", "channel", "agent", "mode", "active", "cost")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Work(StrEnum):
    """Something with several steps that has been begun with a conversation and is not done."""

    FORK = "fork"
    """Messages are being copied into it. It becomes active when all are there."""
    ARCHIVE = "archive"
    """Its messages are being moved to the archive."""
    PURGE = "purge"
    """All of it is being deleted."""


class Parent(_Value):
    """Where a conversation was forked."""

    conversation_id: str
    message_id: str
    """The last message that both have."""


class NewRecord(_Value):
    """What a record says from its beginning."""

    id: str
    user: str | None = None
    """Whose conversation it is, if it is one user's; a trigger may have a user as well."""
    title: str | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    parent: Parent | None = None

    @property
    def conversation(self) -> ConversationId:
        """The id, taken apart."""
        return ConversationId.parse(self.id)

    @property
    def session_id(self) -> SessionId:
        """The session that it is a conversation of."""
        return self.conversation.session

    @property
    def session(self) -> str:
        """The session's id."""
        return str(self.session_id)

    @property
    def generation(self) -> int:
        """Which conversation of its session it is, from 1."""
        return self.conversation.generation

    @property
    def channel(self) -> str:
        """Where its inputs come from."""
        return self.session_id.channel

    @property
    def agent(self) -> str:
        """The agent that it is a conversation with."""
        return self.session_id.agent

    @property
    def mode(self) -> Mode:
        """Whose inputs go into it."""
        return self.session_id.mode


class ConversationRecord(NewRecord):
    """A managed conversation. Times are UTC, by the store's clock."""

    created_at: datetime
    last_activity_at: datetime
    """When a run was last submitted to it, or ended in it; at first when it was made."""
    deactivated_at: datetime | None = None
    archived: str | None = None
    """The name of the archive that holds its messages, if one does."""
    work: Work | None = None
    """What has been begun with it and is not done. It takes no runs meanwhile."""
    message_count: int = 0
    """Messages that are stored, unreadable ones included, when the record was read."""
    runs: int = 0
    """Runs that have ended in it, since it has a record."""
    usage: Usage = Usage()
    """What these took."""
    known_cost: Usd = Decimal(0)
    """What these cost in US dollars, as far as that is known."""
    unpriced_runs: int = 0
    """Of how many of them the cost is not known, or not all of it; their records say why."""

    @model_serializer(mode="wrap")
    def _with_derived(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The stored form says what follows from it, too, for readers that do not know how."""
        return {**handler(self), **{name: getattr(self, name) for name in _DERIVED}}

    @property
    def active(self) -> bool:
        """Whether it takes further runs."""
        return self.deactivated_at is None

    @property
    def cost(self) -> str | None:
        """What its runs cost in US dollars; None where that is not known of all of them."""
        return None if self.unpriced_runs else format_usd(self.known_cost)


@dataclass(frozen=True, slots=True)
class RecordFilter:
    """Which records a list is of. None leaves a filter out; all that are given have to pass.

    Attributes:
        active: Only those that take further runs, or only those that do not.
        archived: Only those whose messages are in an archive, or only the others.
        active_since, active_until: By last activity; the first is included, the second is not.
        created_since, created_until: By when it was made, in the same way.
    """

    user: str | None = None
    agent: str | None = None
    channel: str | None = None
    active: bool | None = None
    archived: bool | None = None
    active_since: datetime | None = None
    active_until: datetime | None = None
    created_since: datetime | None = None
    created_until: datetime | None = None

    def passes(self, record: ConversationRecord) -> bool:
        """Whether a record is one of these."""
        named = (
            (self.user, record.user),
            (self.agent, record.agent),
            (self.channel, record.channel),
            (self.active, record.active),
            (self.archived, record.archived is not None),
        )
        return (
            all(wanted is None or wanted == found for wanted, found in named)
            and _is_within(record.last_activity_at, self.active_since, self.active_until)
            and _is_within(record.created_at, self.created_since, self.created_until)
        )


EVERY_RECORD: Final = RecordFilter()


@dataclass(frozen=True, slots=True)
class RecordPage:
    """A part of a list.

    Attributes:
        records: The one with the newest activity first.
        next: The cursor to go on behind; None where nothing follows.
    """

    records: tuple[ConversationRecord, ...]
    next: str | None = None


def totals_of(ending: Ending) -> dict[str, int]:
    """What a run adds to the totals of its conversation, by the names under which they are kept."""
    totals = {name: getattr(ending.usage, name) for name in Usage.model_fields}
    totals["cost"] = to_units(ending.spending.known_cost)
    totals["unpriced"] = int(ending.spending.cost is None)
    return {name: amount for name, amount in totals.items() if amount}


def _is_within(when: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or when >= since) and (until is None or when < until)
