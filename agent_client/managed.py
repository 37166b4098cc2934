"""Managed conversations: kept like records, found by user, agent and channel, closed, deleted."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import JsonValue

from agent_client.request import check_metadata
from agent_client.session import Session
from shared.directory.record import ConversationRecord, RecordFilter, RecordPage
from shared.directory.session import ConversationId, Mode, SessionId, session_of
from shared.errors import RequestError
from shared.identifier import check_id
from shared.keeping.archiving import archive
from shared.keeping.forking import fork
from shared.keeping.purging import Purged, purge, purge_user
from shared.keeping.reading import counted
from shared.keeping.tidying import Tidied, tidy

MAX_TITLE_LENGTH = 500
"""Characters of a conversation's title."""


class AsyncManagedConversations:
    """What can be done with conversations that have a record; `client.managed`.

    Nothing here asks who the caller is: whoever holds a client may do all of it with everybody's
    conversations. The app in front decides who may, and builds the ids from what it knows of the
    caller, never from what the caller says.

    Methods that take a conversation's id raise `InvalidIdError` for one that is not managed by its
    form, `UnknownConversationError` where there is no record (any more), and `ConfigurationError`
    where the messages are in an archive that this process does not have.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._backend = session.backend

    async def open(
        self,
        *,
        channel: str,
        agent: str,
        user: str | None = None,
        trigger: str | None = None,
        mode: Mode | None = None,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> ConversationRecord:
        """The conversation that a session's next input belongs to; made if there is none.

        Submit to its `id`. All who open a session at once get one conversation. Where the last one
        was deactivated, or nothing happened in it for `AGENTS_CONVERSATION_IDLE_S`, the next one of
        the session begins.

        Args:
            channel: Where the input comes from, such as ``web``.
            agent: The agent that answers.
            user: Whose conversation it is.
            trigger: What started it, for a conversation of its own.
            mode: Per user, per trigger, or shared by all users of the channel. By default the
                first two, by what is given.
            title: Of a conversation that is made.
            metadata: JSON for you, likewise.

        Raises:
            RequestError: The mode and what is given do not fit.
        """
        session = _session(channel, agent, user=user, trigger=trigger, mode=mode)
        await self._session.start()
        record = await self._backend.opened_directory().open(
            session,
            user=user if session.mode is Mode.PER_TRIGGER else None,
            title=_checked_title(title),
            metadata=check_metadata(metadata, self._session.settings),
            idle_s=self._session.settings.conversation_idle_s,
        )
        [found] = await counted(self._backend, [record])
        return found

    async def get(self, conversation_id: str) -> ConversationRecord:
        """Read a record: what it is about, its times, totals and number of messages."""
        record = await self._backend.opened_directory().get(_checked(conversation_id))
        [found] = await counted(self._backend, [record])
        return found

    async def list(  # noqa: PLR0913 - one for each filter, all by name
        self,
        *,
        user: str | None = None,
        agent: str | None = None,
        channel: str | None = None,
        active: bool | None = None,
        archived: bool | None = None,
        active_since: datetime | None = None,
        active_until: datetime | None = None,
        created_since: datetime | None = None,
        created_until: datetime | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> RecordPage:
        """Records that pass all filters given, newest activity first.

        `after` is the `next` of the page before, under the same filters. A record that nobody
        touches meanwhile comes exactly once. Times need a zone; the first is included, the second
        is not.

        Raises:
            InvalidCursorError: `after` is no such cursor.
        """
        for value, what in ((user, "user"), (agent, "agent name"), (channel, "channel")):
            if value is not None:
                check_id(value, what)
        where = RecordFilter(
            user=user,
            agent=agent,
            channel=channel,
            active=active,
            archived=archived,
            active_since=_checked_time(active_since),
            active_until=_checked_time(active_until),
            created_since=_checked_time(created_since),
            created_until=_checked_time(created_until),
        )
        directory = self._backend.opened_directory()
        page = await directory.list_records(where, limit=limit, after=after)
        return RecordPage(tuple(await counted(self._backend, page.records)), page.next)

    async def update(
        self,
        conversation_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, JsonValue] | None = None,
    ) -> ConversationRecord:
        """Replace the title, the metadata as a whole, or both. The last one to do so wins.

        None leaves what is there; an empty title removes it.
        """
        record = await self._backend.opened_directory().update(
            _checked(conversation_id),
            title=_checked_title(title),
            metadata=None if metadata is None else check_metadata(metadata, self._session.settings),
        )
        [found] = await counted(self._backend, [record])
        return found

    async def deactivate(self, conversation_id: str) -> ConversationRecord:
        """Close a conversation: it takes no further runs, and everything stays readable.

        Runs that were accepted before are executed. The session's next input begins a new one.
        """
        record = await self._backend.opened_directory().deactivate(_checked(conversation_id))
        [found] = await counted(self._backend, [record])
        return found

    async def reset(self, conversation_id: str) -> ConversationRecord:
        """Close a conversation and return the one that its session goes on with, a new one.

        Of several at once who reset one conversation, all get the same new one.
        """
        record = await self.deactivate(conversation_id)
        opened = await self._backend.opened_directory().open(
            record.session_id, user=record.user, idle_s=self._session.settings.conversation_idle_s
        )
        [found] = await counted(self._backend, [opened])
        return found

    async def fork(
        self, conversation_id: str, message_id: str, *, into: SessionId | str | None = None
    ) -> ConversationRecord:
        """A new conversation of all messages up to this one, with which the session goes on.

        It is the next one of the conversation's session, or of the session `into`. Messages keep
        their ids and the runs that wrote them; the record names its parent. The conversation that
        is forked stays as it is, and keeps taking runs by its id.

        Raises:
            ForkPointError: There is no such message, or it comes between calls and their results.
        """
        session = session_of(into) if into is not None else None
        if session is None:
            _checked(conversation_id)
        check_id(conversation_id, "conversation id")
        record = await fork(self._backend, conversation_id, message_id, into=session)
        [found] = await counted(self._backend, [record])
        return found

    async def archive(self, conversation_id: str) -> ConversationRecord:
        """Close a conversation and move its messages to the archive; `history` reads them there.

        Raises:
            ConversationBusyError: A run in it has not ended.
            CorruptEntryError: Some messages cannot be copied; all stay here.
        """
        record = await archive(self._backend, _checked(conversation_id))
        [found] = await counted(self._backend, [record])
        return found

    async def purge(self, conversation_id: str) -> Purged:
        """Delete a conversation, its runs and its record. It cannot be undone.

        Conversations without a record can be purged as well. Forks are conversations of their own.

        Raises:
            ConversationBusyError: A run in it has not ended; cancel it first. Nothing was deleted.
        """
        return await purge(self._backend, check_id(conversation_id, "conversation id"))

    async def purge_user(self, user: str) -> tuple[Purged, ...]:
        """Purge every conversation whose record names this user. It cannot be undone.

        Conversations that users share name none of them, so they stay.

        Raises:
            ConversationBusyError: In one of them a run has not ended. All others are purged.
        """
        return await purge_user(self._backend, check_id(user, "user"))

    async def tidy(self) -> Tidied:
        """Close idle conversations, apply the rules of retention, complete what was cut off.

        By `AGENTS_CONVERSATION_IDLE_S` and `AGENTS_RETENTION`. Every worker does it now and then.
        """
        settings = self._session.settings
        return await tidy(
            self._backend, idle_s=settings.conversation_idle_s, retention=settings.retention
        )


def _session(
    channel: str, agent: str, *, user: str | None, trigger: str | None, mode: Mode | None
) -> SessionId:
    if mode is None:
        mode = Mode.PER_TRIGGER if trigger is not None else Mode.PER_USER
    if user is not None:
        check_id(user, "user")
    if mode is Mode.PER_TRIGGER and trigger is not None:
        return SessionId.of_trigger(channel, trigger, agent)
    if mode is Mode.PER_USER and user is not None and trigger is None:
        return SessionId.of_user(channel, user, agent)
    if mode is Mode.SHARED and user is None and trigger is None:
        return SessionId.of_all(channel, agent)
    wanted = {
        Mode.PER_USER: "a user and no trigger",
        Mode.PER_TRIGGER: "a trigger (and a user, if it has one)",
        Mode.SHARED: "neither a user nor a trigger, as it is nobody's own",
    }
    raise RequestError(f"A conversation {mode.value} takes {wanted[mode]}.")


def _checked(conversation_id: str) -> str:
    return str(ConversationId.parse(conversation_id))


def _checked_title(title: str | None) -> str | None:
    if title is not None and (not isinstance(title, str) or len(title) > MAX_TITLE_LENGTH):
        raise RequestError(f"A title is text of at most {MAX_TITLE_LENGTH} characters; shorten it.")
    return title


def _checked_time(when: datetime | None) -> datetime | None:
    if when is not None and when.tzinfo is None:
        raise RequestError(f"The time {when} has no zone; write datetime.now(UTC) and the like.")
    return when
