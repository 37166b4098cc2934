"""The past: what is stored before a run's first message, read backwards as far as asked."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from agent_worker.window.shortening import shortened
from shared.message import Message

FIRST_PAGE: Final = 40
LARGEST_PAGE: Final = 640
"""Pages double up to this, so that a long way back takes few steps and a short one reads little."""

Read = Callable[[str, int], Awaitable[list[Message]]]
"""The newest so many messages before a cursor, oldest first."""


class Past:
    """The newest messages before a run, and on demand those before them.

    Results are shortened as the agent's bounds say, here and in one place, so that whatever a
    policy counts or summarises is what the model would be shown. The run's own messages, and what
    was stored behind its first one, are never among these.
    """

    def __init__(
        self,
        newest: Sequence[Message],
        read: Read,
        *,
        shorten_results_bytes: int | None = None,
    ) -> None:
        self._shorten_to = shorten_results_bytes
        self._messages = self._shown(newest)
        self._read = read
        self._page = FIRST_PAGE
        self._is_whole = not newest

    @property
    def messages(self) -> Sequence[Message]:
        """What was read so far, oldest first, notes included."""
        return self._messages

    @property
    def is_whole(self) -> bool:
        """Whether it is known that nothing lies before these messages."""
        return self._is_whole

    async def extend(self) -> bool:
        """Read a page of older messages; return whether there were any.

        Raises:
            NewerVersionError: One of them is for newer workers.
            StoreUnavailableError: No answer for too long.
        """
        if self._is_whole:
            return False
        cursor = self._messages[0].cursor
        # An entry that cannot be read is left out by the store, so a short page is no last one.
        older = await self._read(cursor, self._page) if cursor is not None else []
        self._page = min(2 * self._page, LARGEST_PAGE)
        self._messages = [*self._shown(older), *self._messages]
        self._is_whole = not older
        return bool(older)

    def _shown(self, messages: Sequence[Message]) -> list[Message]:
        return [shortened(message, self._shorten_to) for message in messages]
