"""What a place on disk must be able to do, so that conversations can be kept there.

All methods block. A storage knows no rules: who may write, what follows what, and what is removed
when, is decided above it (`shared.conversation.local.store`).
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from shared.notification.local import Lookout


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored message, and beside it what filters need, so that only hits are decoded."""

    number: int
    """Its place in the conversation, of which the cursor is made. Grows from entry to entry."""
    run_id: str | None
    position: int
    role: str
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a conversation besides its messages. That of one that is not there: this.

    Attributes:
        number: That of the newest entry that there ever was; later ones are greater.
        count: How many entries there are.
        fencing_token: The greatest one seen.
        retracted_token: The one that was used up by a retract or a delete.
        writer: The run that writes, and at which position it goes on.
        is_deleted: Whether nothing but the token is left.
        expires_at: When all of it is forgotten, in seconds of Unix time.
    """

    number: int = 0
    count: int = 0
    fencing_token: int = 0
    retracted_token: int = 0
    writer: str | None = None
    next_position: int = 0
    is_deleted: bool = False
    expires_at: float | None = None

    @property
    def mark(self) -> tuple[int, int]:
        """Differs whenever the messages do. What lookouts over conversations answer."""
        return (self.number, self.count)

    def is_over(self, now: float) -> bool:
        """Whether its time has come."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are asked for. None asks for no restriction; bounds are exclusive."""

    after: int | None = None
    before: int | None = None
    roles: Collection[str] | None = None
    run_id: str | None = None


EVERYTHING = Selection()


class ConversationReader(Protocol):
    """One conversation as it is at one moment."""

    @property
    def state(self) -> State:
        """That of that moment."""
        ...

    def entries(self, selection: Selection, *, newest_first: bool = False) -> Iterator[Entry]:
        """Entries, oldest first unless asked otherwise; read as they are taken."""
        ...

    def holds(self, number: int) -> bool:
        """Whether the entry with this number is there."""
        ...


class ConversationWriter(ConversationReader, Protocol):
    """The same for whoever is alone with it: nobody else changes it meanwhile, in any process.

    Each of `add`, `keep` and `forget` is one atomic step: a crash leaves it done, or not done. What
    was done is durable when the context ends in which this was got.
    """

    def add(self, state: State, entries: Sequence[Entry]) -> None:
        """Put entries behind the last one, and the state in the place of the former."""
        ...

    def keep(self, state: State, *, gone: Selection) -> int:
        """Remove the entries of a selection for good; return how many.

        `state.count` is that of before, and corrected for it.
        """
        ...

    def forget(self) -> None:
        """Remove everything about the conversation, as if it had never been."""
        ...


class Storage(Protocol):
    """Conversations on disk. For any number of threads at once, and beside other processes.

    Raises, all of it:
        StoreUnavailableError: No answer in bounded time, or the disk refused.
    """

    def reading(self, conversation_id: str) -> AbstractContextManager[ConversationReader]:
        """A view of a conversation, for as long as the context lasts. Waits for no writer."""
        ...

    def writing(self, conversation_id: str) -> AbstractContextManager[ConversationWriter]:
        """The same, alone. Waits, in bounded time, for whoever is."""
        ...

    def conversation_ids(self, now: float) -> list[str]:
        """Conversations that hold messages, without the histories of runs that are alone."""
        ...

    def forget_expired(self, now: float) -> None:
        """Remove what has had its time, in seconds of Unix time."""
        ...

    @property
    def lookout(self) -> Lookout:
        """Sees what other processes change: topics are ids of conversations, states their marks."""
        ...

    def close(self) -> None:
        """Give everything back. Nothing is called any more from then on."""
        ...
