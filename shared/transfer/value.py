"""What may be said about a transfer, and what is said about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from shared.errors import AgentsError


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How conversations are brought to another store.

    Attributes:
        on_corrupt: What to do about a conversation with entries that cannot be read. ``stop``
            ends all of it before that conversation is touched. ``report`` goes without what is
            damaged and says how much that was; a conversation with messages for newer readers, or
            for other keys, is left out and named.
        replace: Delete what the target holds under an id if it is something else. Otherwise that is
            an error.
        verify_only: Compare, and write nothing.
        concurrency: Conversations at a time.
        page_size: Messages of one read, and the most of one write. Memory is bounded by two pages
            for each of the conversations that are under way at a time, and each side.
        batch_bytes: A write of more than one message is no larger than this.
        patience_s: How long a store may be away before all of it ends.
    """

    on_corrupt: Literal["stop", "report"] = "stop"
    replace: bool = False
    verify_only: bool = False
    concurrency: int = 4
    page_size: int = 100
    batch_bytes: int = 1_000_000
    patience_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Transferred:
    """A conversation that the target holds as the source does, message by message.

    Attributes:
        messages: How many messages that is.
        digest: Their digest; see `shared.transfer.digest`.
        size: Bytes of their canonical forms.
        written: How many were not there before.
        unreadable: Entries of the source that cannot be read, and are not in the target.
        has_changed: The source changed while it was read; what came is there as well.
    """

    conversation_id: str
    messages: int
    digest: str
    size: int
    written: int = 0
    unreadable: int = 0
    has_changed: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is.

    Attributes:
        done: Conversations that are over: verified, or given up.
        total: How many there are.
        messages: Messages read and compared or written so far, each once.
        size: Their bytes.
        failures: Conversations that were given up.
    """

    done: int = 0
    total: int = 0
    messages: int = 0
    size: int = 0
    failures: int = 0


OnProgress = Callable[[Progress], None]
"""Called after each page and each conversation; what it raises ends the transfer."""


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What became of all conversations.

    Attributes:
        conversations: How many are in the target as they are in the source.
        messages: How many messages these have.
        size: Bytes of their canonical forms.
        written: How many messages were not there before.
        digest: Of all of these conversations; see `shared.transfer.digest.StoreDigest`.
        unreadable: Conversations that went without entries that cannot be read, and how many.
        changed: Conversations that changed in the source after they were copied, or while they
            were, and were brought up to date.
        failures: Conversations that were given up, and why.
    """

    conversations: int = 0
    messages: int = 0
    size: int = 0
    written: int = 0
    digest: str = ""
    unreadable: dict[str, int] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    failures: dict[str, AgentsError] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the target holds every message of every conversation that was asked for."""
        return not self.failures and not self.unreadable
