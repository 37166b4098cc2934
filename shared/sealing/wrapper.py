"""A conversation store over another one: all that does not concern the content passes through."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import ClassVar

from shared.conversation.hint import telling
from shared.conversation.protocol import Claim, ConversationStore, Writer
from shared.errors import ConfigurationError, SealError
from shared.message import Message, Role
from shared.notification.protocol import Notifications


class WrappedConversations:
    """Changes each message on its way into a store, and back on its way out.

    Ids, positions, roles, kinds and times stay, so that the guarantees of the store stay as well.
    A message that cannot be changed back is raised as `SealError` by whatever would return it: it
    is neither left out nor removed.

    Raises:
        ConfigurationError: The store is wrapped in what has to go over this, or in this already.
    """

    layer: ClassVar[int] = 0
    """The place of a wrapper above the store: each goes over those with a smaller number only."""
    what: ClassVar[str] = ""
    """The wrapper in words, for errors."""

    def __init__(self, store: ConversationStore) -> None:
        self._check_order(store)
        self._store = store
        self._telling = telling(store)

    @property
    def inner(self) -> ConversationStore:
        """The store below."""
        return self._store

    @property
    def is_distributed(self) -> bool:
        """As the store below."""
        return self._store.is_distributed

    @property
    def notifications(self) -> Notifications:
        """Those of the store below."""
        return self._store.notifications

    def topic(self, conversation_id: str) -> str:
        """That of the store below."""
        return self._store.topic(conversation_id)

    async def claim(self, conversation_id: str, writer: Writer, *, limit: int) -> Claim:
        """See `ConversationStore.claim`.

        Raises:
            SealError: One of the messages cannot be opened. The claim is made.
        """
        claim = await self._store.claim(conversation_id, writer, limit=limit)
        own = self._opened(conversation_id, claim.own)
        self._check_own(conversation_id, own)
        return Claim(
            earlier=tuple(self._opened(conversation_id, claim.earlier)),
            own=tuple(own),
            next_position=claim.next_position,
            unreadable=claim.unreadable,
        )

    async def append(
        self, conversation_id: str, messages: Sequence[Message], *, writer: Writer | None = None
    ) -> list[str]:
        """See `ConversationStore.append`."""
        # All of them first: one that cannot be sealed must not leave the others behind.
        sealed = [self._seal(conversation_id, message) for message in messages]
        return await self._store.append(conversation_id, sealed, writer=writer)

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
        """See `ConversationStore.list_messages`.

        Raises:
            SealError: One of the messages cannot be opened.
        """
        found = await self._store.list_messages(
            conversation_id, limit=limit, before=before, after=after, roles=roles, run_id=run_id
        )
        return self._opened(conversation_id, found)

    def told(
        self,
        conversation_id: str,
        hints: Sequence[str],
        *,
        run_id: str,
        after: str | None,
        position: int,
    ) -> list[Message] | None:
        """See `TellingStore.told`. What cannot be opened is left to who looks."""
        if self._telling is None:
            return None
        told = self._telling.told(
            conversation_id, hints, run_id=run_id, after=after, position=position
        )
        try:
            return told and self._opened(conversation_id, told)
        except SealError:
            return None

    async def has_message(self, conversation_id: str, cursor: str) -> bool:
        """See `ConversationStore.has_message`."""
        return await self._store.has_message(conversation_id, cursor)

    async def retract(self, conversation_id: str, writer: Writer) -> int:
        """See `ConversationStore.retract`."""
        return await self._store.retract(conversation_id, writer)

    async def expire(self, conversation_id: str, ttl_s: float) -> None:
        """See `ConversationStore.expire`."""
        await self._store.expire(conversation_id, ttl_s)

    async def clear(self, conversation_id: str) -> int:
        """See `ConversationStore.clear`."""
        return await self._store.clear(conversation_id)

    async def remove(self, conversation_id: str, cursor: str) -> bool:
        """See `ConversationStore.remove`."""
        return await self._store.remove(conversation_id, cursor)

    async def delete(self, conversation_id: str) -> int:
        """See `ConversationStore.delete`."""
        return await self._store.delete(conversation_id)

    async def count(self, conversation_id: str) -> int:
        """See `ConversationStore.count`."""
        return await self._store.count(conversation_id)

    def conversation_ids(self) -> AsyncIterator[str]:
        """See `ConversationStore.conversation_ids`."""
        return self._store.conversation_ids()

    async def aclose(self) -> None:
        """See `ConversationStore.aclose`."""
        await self._store.aclose()

    def _seal(self, conversation_id: str, message: Message, /) -> Message:
        """The message as the store below gets it."""
        raise NotImplementedError

    def _open(self, conversation_id: str, message: Message, where: str, /) -> Message:
        """The message as it was before `_seal`. Raises `SealError`; `where` names it there."""
        raise NotImplementedError

    def _check_own(self, conversation_id: str, own: Sequence[Message]) -> None:
        """Look at the messages of a run that is taken up again, all of them in order."""

    def _opened(self, conversation_id: str, messages: Sequence[Message]) -> list[Message]:
        return [
            self._open(
                conversation_id,
                message,
                f"The message at {message.cursor} of conversation {conversation_id}",
            )
            for message in messages
        ]

    def _check_order(self, store: ConversationStore) -> None:
        below = store
        while isinstance(below, WrappedConversations):
            if below.layer == self.layer:
                raise ConfigurationError(
                    f"This store is wrapped in {self.what} already; once is enough. Take one of "
                    f"the two {type(self).__name__} away."
                )
            if below.layer > self.layer:
                raise ConfigurationError(
                    f"{type(self).__name__} has to lie below {type(below).__name__}: what is "
                    "written passes the guard, is compressed and then encrypted, since what is "
                    "encrypted can be compressed no more. Build "
                    "GuardedConversations(CompressedConversations(EncryptedConversations(store)))."
                )
            below = below.inner


def innermost(store: ConversationStore) -> ConversationStore:
    """The store itself, below everything that it is wrapped in."""
    while isinstance(store, WrappedConversations):
        store = store.inner
    return store
