"""Hints that bring a message along, so that a watcher need not ask the store for it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from shared.message import Message


@runtime_checkable
class TellingStore(Protocol):
    """A `ConversationStore` whose hints may say more than "look again".

    An option: stores without it are looked at after each hint.
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
        `position` is that of the run's next one. A list is all there is behind `after`, as
        `list_messages` would answer it, and may be empty. None says that a look is needed: a hint
        brings nothing along, is of something else than an append, or something in it is not as
        expected. So a hint is never believed where the store might say anything else.
        """
        ...
