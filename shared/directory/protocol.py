"""Where records of conversations are kept: the protocol, and what implementations guarantee."""

from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from shared.directory.record import (
    EVERY_RECORD,
    ConversationRecord,
    Parent,
    RecordFilter,
    RecordPage,
    Work,
)
from shared.directory.session import SessionId


class ConversationDirectory(Protocol):
    """A record for each managed conversation.

    The directory belongs to the ledger that it comes with, since three things happen in one step
    with a change of a run there. A conversation without a record is left alone by all of them:

    - *Totals*: the step that ends a run adds it to the totals of its conversation. A run ends once,
      so it counts once, and there is no moment in which it has ended and does not count. So nothing
      has to be repaired, whichever process dies when.
    - *Activity*: a submit to the conversation, and the end of a run in it, are its last activity.
    - *Closing*: once `deactivate` (or `expire`, or `begin`) has returned, `submit` to the
      conversation raises `ConversationInactiveError`. Runs accepted before that are executed.

    Further guarantees, tested by one contract suite:

    - *One conversation a session*: of any number of concurrent `open` calls for a session all get
      the same record, and nobody gets one that was closed before the call.
    - *Generations only grow* for as long as a session has any record: the id of a conversation is
      not used for another one, unless all of its session was forgotten.
    - *Nothing is deleted* but by `forget`: a closed conversation is read and listed as before.
    - *Lists*: newest activity first. Page by page, a record that nobody touches meanwhile comes
      exactly once, and one that is touched at most once.
    - *Time* is the store's clock, to the millisecond.

    Records are returned without `message_count`, which is the conversation store's to say.
    A method that is given a conversation without a record raises `UnknownConversationError`, every
    one raises `StoreUnavailableError` when there is no answer, and all may be repeated.
    """

    async def open(
        self,
        session: SessionId,
        *,
        user: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
        idle_s: float | None = None,
    ) -> ConversationRecord:
        """The session's conversation that takes inputs now; made if there is none.

        That is its newest one, unless it was closed, or had no activity for `idle_s` seconds (None
        is no limit) and no run that has not ended: then it is closed, and the next generation made.
        The other arguments are for one that is made; `user` is that of the session, if it has one.
        Opening is no activity.
        """
        ...

    async def get(self, conversation_id: str) -> ConversationRecord:
        """Read a record, whatever state it is in."""
        ...

    async def update(
        self,
        conversation_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> ConversationRecord:
        """Replace the title, the metadata as a whole, or both; None leaves it. Last wins, each."""
        ...

    async def list_records(
        self, where: RecordFilter = EVERY_RECORD, *, limit: int = 50, after: str | None = None
    ) -> RecordPage:
        """Records that pass the filter. `after` is the `next` of a page with the same filter.

        Raises:
            InvalidCursorError: `after` is no such cursor.
        """
        ...

    async def deactivate(self, conversation_id: str) -> ConversationRecord:
        """Let the conversation take no further runs. The first time stays."""
        ...

    async def expire(self, conversation_id: str, idle_s: float) -> bool:
        """Close it if it had no activity for `idle_s` and no run is under way; whether it did."""
        ...

    async def reserve(
        self, session: SessionId, parent: Parent, source: ConversationRecord | None = None
    ) -> ConversationRecord:
        """Make the next generation for a fork: closed, at work, and not the session's newest yet.

        User, title and metadata are those of `source`, if there is one.
        """
        ...

    async def activate(self, conversation_id: str) -> ConversationRecord:
        """Open a reserved conversation: its session's newest, unless a newer one was made since.

        One that is not reserved (any more) stays as it is.
        """
        ...

    async def begin(
        self, conversation_id: str, work: Work, *, idle_s: float | None = None
    ) -> ConversationRecord:
        """Close the conversation and note what is being done with it. A purge takes any other over.

        Raises:
            ConversationBusyError: A run in it has not ended, or (where `idle_s` is given) something
                has happened in it since. Nothing changed.
            RequestError: Other work has been begun with it. Nothing changed.
        """
        ...

    async def end_archiving(self, conversation_id: str, archive: str) -> ConversationRecord:
        """Note that its messages are in the archive of this name, and that this work is done.

        Raises:
            RequestError: That is not the work that was begun with it.
        """
        ...

    async def forget(self, conversation_id: str) -> None:
        """Delete the record, and its session with the last one. What is not there is forgotten."""
        ...

    async def list_unfinished(self, *, limit: int = 100) -> list[ConversationRecord]:
        """Conversations with work that was begun and is not done, the oldest beginning first."""
        ...
