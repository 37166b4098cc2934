"""Conversations at OpenAI: contents there, as its Responses API reads them; everything else here.

The provider's Conversations API has no compare-and-set, no fencing and no place for a run's id. So
order, idempotency and fencing are led from an index, which is any other conversation store, and an
append becomes visible with the one atomic step that writes its entries there:

    note ──► make items at OpenAI ──► append entries to the index ──► take the note away

Interrupted anywhere, it leaves at most items that no entry names, and a note that says so; the next
claim, or a delete, removes them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import structlog

from shared.conversation.openai_api import ConversationsApi
from shared.conversation.openai_items import (
    Parting,
    Reference,
    find_reference,
    named_by,
    part,
    whole,
)
from shared.conversation.openai_making import Making
from shared.conversation.openai_reading import Content
from shared.conversation.openai_upkeep import Note, Upkeep
from shared.conversation.protocol import Claim, ConversationStore, Writer
from shared.errors import (
    CorruptEntryError,
    NewerVersionError,
    RequestError,
    StoreUnavailableError,
    WriterError,
)
from shared.identifier import is_alone
from shared.message import Message, Role
from shared.notification.protocol import Notifications

if TYPE_CHECKING:
    from shared.conversation.openai_api import Client

log = structlog.get_logger()

_TRIES: Final = 3
_READS: Final = 10
"""How often a read begins anew because messages were removed meanwhile."""
_MARGIN: Final = 20
"""Entries of the run that are looked at beyond those of an append: of appends that raced it."""


class OpenAIConversationStore:
    """See `ConversationStore`. Cursors, hints and `is_distributed` are the index's.

    What stays in the index altogether: histories of runs that are alone, which are to be forgotten
    after a while; notes about failed runs and summaries, which no model at the provider should
    read; sealed messages, and what the provider refuses. Also in the index: metadata, usage, engine
    data, reasoning, and our form of images and documents.

    The index may forget nothing by itself: no time to live and no maximum of messages, or the
    contents stay at the provider. It must not be used without this store; what is in it is sealed,
    so that it does not look empty. `close` is called by `aclose`, in order.
    """

    def __init__(
        self,
        client: "Client",
        index: ConversationStore,
        *,
        call_timeout_s: float = 10.0,
        close: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._api = ConversationsApi(client, call_timeout_s=call_timeout_s)
        self._index = index
        self._upkeep = Upkeep(self._api, index)
        self._content = Content(self._api, index)
        self._close = close

    @property
    def is_distributed(self) -> bool:
        """As the index."""
        return self._index.is_distributed

    @property
    def notifications(self) -> Notifications:
        """Those of the index."""
        return self._index.notifications

    def topic(self, conversation_id: str) -> str:
        """That of the index."""
        return self._index.topic(conversation_id)

    async def provider_conversation(self, conversation_id: str) -> str | None:
        """The id (``conv_...``) to use with the Responses API; None where nothing is there yet."""
        return (await self._upkeep.places(conversation_id)).current

    # --- writing ----------------------------------------------------------------------------------

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        """Append; see `ConversationStore.append`.

        A message that OpenAI refuses is kept in the index as it is, and logged.
        """
        if is_alone(conversation_id) or not messages:
            return await self._index.append(conversation_id, messages, writer=writer)
        partings = [part(message) for message in messages]
        if writer is not None:
            stored_to = await self._last_position(conversation_id, writer.run_id)
            partings = [
                parting if parting.message.position > stored_to else whole(parting)
                for parting in partings
            ]
        if not any(parting.items for parting in partings):
            return await self._index.append(conversation_id, messages, writer=writer)
        token = writer.fencing_token if writer is not None else None
        note = await self._upkeep.note(conversation_id, token=token)
        making = Making(self._api, self._upkeep, conversation_id)
        entries = await making.make(partings)
        try:
            cursors = await self._index.append(conversation_id, entries, writer=writer)
        except (WriterError, RequestError):
            await self._undo(conversation_id, making, note)
            raise
        if writer is not None:
            await making.remove_unnamed(await self._named_of(conversation_id, writer, entries))
        if await self._upkeep.settle(conversation_id, note):
            return cursors
        return await self._made_anew(conversation_id, partings, cursors)

    async def _undo(self, conversation_id: str, making: Making, note: Note) -> None:
        """The index refused the append. If the items cannot be removed now, the note stays."""
        try:
            await making.undo()
        except StoreUnavailableError as error:
            log.warning("openai.left_behind", conversation_id=conversation_id, error=str(error))
            return
        await self._upkeep.settle(conversation_id, note)

    async def _named_of(
        self, conversation_id: str, writer: Writer, entries: Sequence[Message]
    ) -> set[tuple[str, str]]:
        """What the entries of a run name, once they are stored.

        Not always what was made for them: another append of the same run may have been first.
        """
        newest = await self._index.list_messages(
            conversation_id, run_id=writer.run_id, limit=len(entries) + _MARGIN
        )
        if newest and newest[0].position > entries[0].position:
            newest = await self._index.list_messages(conversation_id, run_id=writer.run_id)
        return named_by(newest)

    async def _made_anew(
        self, conversation_id: str, partings: Sequence[Parting], cursors: list[str]
    ) -> list[str]:
        """Somebody took the note of an append away and may have removed its items.

        That takes a process that stood still for minutes in the middle of an append, or a delete at
        the same time. What it has stored is stored once more, at the end, and the first removed.
        """
        for _ in range(_TRIES):
            present = {
                cursor: part(parting.message)
                for parting, cursor in zip(partings, cursors, strict=True)
                if parting.items and await self._index.has_message(conversation_id, cursor)
            }
            if not present:
                return cursors  # deleted since
            note = await self._upkeep.note(conversation_id)
            making = Making(self._api, self._upkeep, conversation_id)
            entries = await making.make(list(present.values()))
            added = await self._index.append(conversation_id, entries)
            for cursor in present:
                await self._index.remove(conversation_id, cursor)
            instead = dict(zip(present, added, strict=True))
            cursors = [instead.get(cursor, cursor) for cursor in cursors]
            if await self._upkeep.settle(conversation_id, note):
                return cursors
        raise StoreUnavailableError(
            f"Conversation {conversation_id} is being deleted again and again; try again later."
        )

    async def _last_position(self, conversation_id: str, run_id: str) -> int:
        """That of the newest message of a run that is there; what is up to it is stored."""
        try:
            newest = await self._index.list_messages(conversation_id, run_id=run_id, limit=1)
        except NewerVersionError:
            return -1  # items that turn out to be there already are removed afterwards
        return newest[0].position if newest else -1

    # --- reading ----------------------------------------------------------------------------------

    async def claim(self, conversation_id: str, writer: Writer, *, limit: int) -> Claim:
        """Become the only writer, and tidy up; see `ConversationStore.claim`."""
        claim = await self._index.claim(conversation_id, writer, limit=limit)
        if is_alone(conversation_id):
            return claim
        await self._tidy_up(conversation_id, writer)
        entries = [*claim.earlier, *claim.own]
        opened = await self._content.opened(conversation_id, entries, from_end=True)
        own = [message for message in opened[len(claim.earlier) :] if message is not None]
        unreadable = 0
        for entry, message in zip(claim.own, opened[len(claim.earlier) :], strict=True):
            unreadable += message is None and await self._content.is_there(conversation_id, entry)
        return replace(
            claim,
            earlier=tuple(each for each in opened[: len(claim.earlier)] if each is not None),
            own=tuple(own),
            unreadable=claim.unreadable + unreadable,
        )

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
        """Read a part of a conversation; see `ConversationStore.list_messages`."""
        for _ in range(_READS):
            found = await self._read(
                conversation_id, limit=limit, before=before, after=after, roles=roles, run_id=run_id
            )
            if found is not None:
                return found
        raise StoreUnavailableError(
            f"Messages of conversation {conversation_id} were removed again and again while they "
            "were read; try again."
        )

    async def _read(
        self,
        conversation_id: str,
        *,
        limit: int | None,
        before: str | None,
        after: str | None,
        roles: Collection[Role] | None,
        run_id: str | None,
    ) -> list[Message] | None:
        """The messages; None where some of them were removed between the index and their content.

        A removal is one step in the index and many at the provider: who sees a part of it has
        read the index before.
        """
        found: list[Message] = []
        from_end = before is None
        while True:
            wanted = None if limit is None else limit - len(found)
            entries = await self._index.list_messages(
                conversation_id,
                limit=wanted,
                before=before,
                after=after,
                roles=roles,
                run_id=run_id,
            )
            opened = await self._content.opened(conversation_id, entries, from_end=from_end)
            for entry, message in zip(entries, opened, strict=True):
                if message is None and not await self._content.is_there(conversation_id, entry):
                    return None
            readable = [message for message in opened if message is not None]
            found = found + readable if after is not None else readable + found
            # What could not be read does not count, so there may be more to read.
            if wanted is None or len(entries) < wanted or len(found) == limit:
                return found
            from_end = False
            if after is not None:
                after = entries[-1].cursor
            else:
                before = entries[0].cursor

    async def has_message(self, conversation_id: str, cursor: str) -> bool:
        """Whether a message is still there; see `ConversationStore.has_message`."""
        return await self._index.has_message(conversation_id, cursor)

    async def count(self, conversation_id: str) -> int:
        """How many messages there are; see `ConversationStore.count`."""
        return await self._index.count(conversation_id)

    def conversation_ids(self) -> AsyncIterator[str]:
        """All conversations; see `ConversationStore.conversation_ids`."""
        return self._index.conversation_ids()

    # --- removing ---------------------------------------------------------------------------------

    async def retract(self, conversation_id: str, writer: Writer) -> int:
        """Remove what a run wrote; see `ConversationStore.retract`."""

        async def own() -> list[Message]:
            return await self._index.list_messages(conversation_id, run_id=writer.run_id)

        async def retract() -> int:
            return await self._index.retract(conversation_id, writer)

        return await self._remove(conversation_id, own, retract, token=writer.fencing_token)

    async def clear(self, conversation_id: str) -> int:
        """Remove all messages; see `ConversationStore.clear`."""

        async def unknown() -> list[Message]:
            return []  # an import may come in between, so all that nobody names is looked for

        async def clear() -> int:
            return await self._index.clear(conversation_id)

        return await self._remove(conversation_id, unknown, clear)

    async def remove(self, conversation_id: str, cursor: str) -> bool:
        """Remove one message; see `ConversationStore.remove`."""

        async def entry() -> list[Message]:
            return await self._entry_at(conversation_id, cursor)

        async def remove() -> int:
            return int(await self._index.remove(conversation_id, cursor))

        return bool(await self._remove(conversation_id, entry, remove))

    async def _remove(
        self,
        conversation_id: str,
        find: Callable[[], Awaitable[list[Message]]],
        remove: Callable[[], Awaitable[int]],
        *,
        token: int | None = None,
    ) -> int:
        """Remove entries, then their items. Where it is not known which, look for all unnamed."""
        if is_alone(conversation_id) or not (await self._upkeep.places(conversation_id)).all:
            return await remove()
        note = await self._upkeep.note(conversation_id, token=token, removes=True)
        try:
            entries = await find()
        except NewerVersionError:
            entries = []
        try:
            removed = await remove()
        except (WriterError, RequestError):
            await self._upkeep.settle(conversation_id, note)
            raise
        if removed == len(entries):
            for reference in map(find_reference, entries):
                if isinstance(reference, Reference):
                    await self._api.delete_items(reference.conversation, reference.items)
        elif removed and not await self._tidy(conversation_id):
            return removed  # the note stays, and a later claim sees to it
        await self._upkeep.settle(conversation_id, note)
        return removed

    async def _entry_at(self, conversation_id: str, cursor: str) -> list[Message]:
        """The entry with this cursor, by its neighbour: cursors are exclusive."""
        behind = await self._index.list_messages(conversation_id, after=cursor, limit=1)
        entries = await self._index.list_messages(
            conversation_id, before=behind[0].cursor if behind else None, limit=1
        )
        return [entry for entry in entries if entry.cursor == cursor]

    async def delete(self, conversation_id: str) -> int:
        """Forget a conversation, here and at the provider; see `ConversationStore.delete`.

        When it raises, something may be left at the provider; repeating it removes that, too.
        Of an append at the same time it waits for the end, for a few seconds.
        """
        if is_alone(conversation_id) or not (await self._upkeep.places(conversation_id)).all:
            return await self._index.delete(conversation_id)
        await self._upkeep.give_up(conversation_id)
        removed = await self._index.delete(conversation_id)
        if not await self._tidy(conversation_id, is_deletion=True):
            raise StoreUnavailableError(
                f"Conversation {conversation_id} is deleted, but messages of it may still be at "
                "OpenAI; delete it again."
            )
        return removed

    async def expire(self, conversation_id: str, ttl_s: float) -> None:
        """Forget the history of a run that is alone; see `ConversationStore.expire`.

        Raises:
            RequestError: It is a conversation, whose contents the provider would keep.
        """
        if not is_alone(conversation_id):
            raise RequestError(
                f"Conversation {conversation_id} is at OpenAI, which forgets nothing by itself. "
                "Delete it when its time has come."
            )
        await self._index.expire(conversation_id, ttl_s)

    async def aclose(self) -> None:
        """Close what was opened for this store."""
        for close in self._close:
            await close()

    # --- tidying up -------------------------------------------------------------------------------

    async def _tidy_up(self, conversation_id: str, writer: Writer) -> None:
        """Remove what writers before this one left. What fails now is for the next claim."""
        token = writer.fencing_token
        if not await self._upkeep.is_untidy(conversation_id, fenced_below=token):
            return
        try:
            await self._tidy(conversation_id, fenced_below=token)
        except StoreUnavailableError as error:
            log.warning("openai.not_tidied", conversation_id=conversation_id, error=str(error))

    async def _tidy(
        self, conversation_id: str, *, fenced_below: int | None = None, is_deletion: bool = False
    ) -> bool:
        async def named() -> Collection[tuple[str, str]] | None:
            return await self._all_named(conversation_id)

        return await self._upkeep.tidy(
            conversation_id, named, fenced_below=fenced_below, is_deletion=is_deletion
        )

    async def _all_named(self, conversation_id: str) -> Collection[tuple[str, str]] | None:
        """All that the index names; None where an entry cannot be read, which might name more."""
        try:
            entries = await self._index.list_messages(conversation_id)
        except NewerVersionError:
            return None
        if len(entries) < await self._index.count(conversation_id):
            return None
        if any(isinstance(find_reference(entry), CorruptEntryError) for entry in entries):
            return None
        return named_by(entries)
