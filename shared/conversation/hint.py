"""Hints that bring a message along, so that a watcher need not ask the store for it."""

from collections.abc import Sequence
from typing import Protocol, cast

from shared.conversation.protocol import ConversationStore
from shared.message import Message


class TellingStore(Protocol):
    """A `ConversationStore` whose hints may say more than "look again".

    An option: stores without it are looked at after each hint. It needs notifications that arrive
    in order, and tell of each that may have been lost. A subclass that hands out other messages
    than its base has to do so here as well.
    """

    def told(
        self,
        conversation_id: str,
        hints: Sequence[str],
        *,
        run_id: str,
        after: str | None,
        position: int,
    ) -> list[Message] | None:
        """The messages of a run that hints brought along: what a look would find, or None.

        `hints` is everything that was published on the topic of the conversation, in order, since
        somebody saw all messages of the run up to the one at `after` (None: there were none);
        some of it may be older. `position` is that of the run's next message. A list is all there
        is behind `after`, as `list_messages` would have answered when the last hint was published,
        and may be empty. None says that a look is needed: a hint brings nothing along, is of
        something else than an append, or something in it is not as expected.
        """
        ...


def telling(store: ConversationStore) -> TellingStore | None:
    """The store, if its class says that it tells. What merely forwards to another one does not."""
    tells = callable(getattr(type(store), "told", None))
    return cast(TellingStore, store) if tells else None
