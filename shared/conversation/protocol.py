"""Where conversations are kept: the protocol, and what every implementation guarantees."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shared.message import Message, Role
from shared.notification.protocol import Notifications

DELETED_FENCE_S: Final = 3600.0
"""How long a deleted conversation still refuses who wrote to it. A frozen worker sleeps less."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who appends: a run, with the fencing token of the lease under which it is executed."""

    run_id: str
    fencing_token: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker finds when it takes a conversation over.

    Attributes:
        earlier: The newest messages before this run's first, oldest first, at most as many as
            asked for.
        own: Everything that this run wrote under earlier leases, by position.
        next_position: Where the run goes on.
        unreadable: How many messages of the run are stored and cannot be read. The run cannot be
            continued without them: what they say would be done once more.
    """

    earlier: tuple[Message, ...]
    own: tuple[Message, ...]
    next_position: int = 0
    unreadable: int = 0


class ConversationStore(Protocol):
    """Ordered, append-only logs of messages, one under each conversation id.

    Guarantees of every implementation, tested by one contract suite:

    - *Order*: all readers see the messages of a conversation in one order, that of their appends.
    - *Atomicity*: the messages of one `append` become visible together or not at all.
    - *Idempotency*: a (run id, position) is stored once. A repeated append skips what is there.
    - *Fencing*: once a `claim` with a token has returned, every append to that conversation with a
      smaller token is refused, for ever (a `clear` does not reset it).
    - *Visibility*: a message is readable, by every reader, when `append` returns, and a
      notification on `topic(conversation_id)` follows.
    - *Isolation of damage*: an unreadable entry costs that entry; the rest stays readable.
    - *Deletion*: what `delete` removed is not brought back by who wrote it.
    - *No holes*: an entry that is whole, but of a newer version than this process reads, is never
      left out. What would return it raises `NewerVersionError`; what lies before it can be read.
    """

    @property
    def is_distributed(self) -> bool:
        """Whether other processes see the same conversations. False means: this process only."""
        ...

    @property
    def notifications(self) -> Notifications:
        """Where a hint arrives after each change."""
        ...

    def topic(self, conversation_id: str) -> str:
        """The topic on which changes of this conversation are announced."""
        ...

    async def claim(self, conversation_id: str, writer: Writer, *, limit: int) -> Claim:
        """Become the conversation's only writer, and read what a run needs to go on.

        From its return on, writers with a smaller token are refused. `limit` bounds
        `Claim.earlier` (0 or more); own messages always come whole, and the next position
        follows the last of them (0 when there are none), readable or not.

        Raises:
            FencedError: A writer with a greater token was here already.
            NewerVersionError: Some of these messages are for newer workers. The claim is made.
            StoreUnavailableError: The store did not answer; claiming again is safe.
        """
        ...

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        """Append `messages` in one atomic step and return their cursors, in order.

        With a `writer`, all messages are of its run, and their positions go up one by one and
        continue what the run wrote; messages that are stored already are skipped, and their place
        in the answer holds the cursor they have ('' when they were cleared since). A token greater
        than all before it counts as a claim. Without a writer (imports, migrations) the messages
        are appended as they are, whoever holds the conversation.

        Raises:
            FencedError: The writer's token is not the newest one, or was used up by `retract`.
                Nothing was stored.
            PositionGapError: The messages do not continue the run. Nothing was stored.
            UnstorableError: One of them could not be read again. Nothing was stored.
            StoreUnavailableError: No answer. The write may have happened; with a writer,
                repeating it is safe.
        """
        ...

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
        """Read a part of a conversation, always oldest first; each message has its `cursor`.

        `after` and `before` are cursors and exclusive. With `after` the *first* `limit` messages
        behind it are returned, otherwise the *newest* `limit`. `limit` counts messages that pass
        the filters (0 or more). An unknown conversation is empty; no roles match no message.

        Raises:
            InvalidCursorError: A cursor that this store did not hand out.
            NewerVersionError: One of these messages is for newer readers.
            StoreUnavailableError: No answer.
        """
        ...

    async def has_message(self, conversation_id: str, cursor: str) -> bool:
        """Whether the message with this cursor is still there: not retracted, cleared or expired.

        Raises:
            InvalidCursorError: A cursor that this store did not hand out.
            StoreUnavailableError: No answer.
        """
        ...

    async def retract(self, conversation_id: str, writer: Writer) -> int:
        """Remove everything that the writer's run wrote; return how many messages that were.

        The writer's token is used up: an append with it is refused from here on, so that one that
        was given up and arrives late does not bring messages back. Under a greater token the run's
        positions start again at 0. Repeating it is harmless.

        Raises:
            FencedError: The writer's token is not the newest one.
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def expire(self, conversation_id: str, ttl_s: float) -> None:
        """Forget the conversation `ttl_s` seconds from now (histories of runs that are alone).

        Fencing tokens are forgotten with it.
        """
        ...

    async def clear(self, conversation_id: str) -> int:
        """Remove all messages; return how many. Cursors handed out before stay valid.

        A run that is writing goes on: its next append continues its positions. If it is claimed
        anew before that, it finds no message of its own and starts over.
        """
        ...

    async def remove(self, conversation_id: str, cursor: str) -> bool:
        """Remove one message; return whether it was there. Of several callers one hears True.

        For the last message of a conversation that nobody writes to (see `pop_message`) and for
        what the law wants removed. As after a `clear`, a run that wrote it and goes on continues
        its positions. Watchers get a hint, and hear of a removal if it was of the last message
        that they have seen.

        Raises:
            InvalidCursorError: A cursor that this store did not hand out.
            StoreUnavailableError: No answer. Repeating it is safe; the answer may then be False.
        """
        ...

    async def delete(self, conversation_id: str) -> int:
        """Forget a conversation; return how many messages were removed.

        Who writes is refused from here on, as after `retract`; appends without a writer, and those
        under a greater token, begin a new conversation. The id and the newest fencing token, and
        nothing else, stay for `DELETED_FENCE_S`, unless a new conversation begins: they refuse
        writers that come late. Cursors handed out before mean nothing any more.

        Raises:
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def count(self, conversation_id: str) -> int:
        """How many messages there are, unreadable ones included. Cheap, however many."""
        ...

    def conversation_ids(self) -> AsyncIterator[str]:
        """Conversations that hold messages, each once, in no particular order.

        Without the histories of runs that are alone. One that comes or goes meanwhile may be named
        or not.

        Raises:
            StoreUnavailableError: No answer.
        """
        ...

    async def aclose(self) -> None:
        """Give back what the store itself opened; what was passed to it stays open.

        Closing twice is harmless.
        """
        ...
