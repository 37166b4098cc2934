"""One watcher of one topic, whatever service its hints come from."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from shared.errors import StoreUnavailableError
from shared.notification.bell import Bell

RECONNECTED: Final = ""
"""The payload that listeners get when something may have been missed."""

_MOST_HEARD: Final = 16
"""Payloads that a listener keeps for who takes them. Whoever is further behind reads anyway."""


class Listener:
    """See `Subscription`. With `keeps_payloads` it remembers what it hears, not only that."""

    __slots__ = ("_bell", "_heard", "_is_closed", "_is_hinted", "_payloads")

    def __init__(self, *, bell: Bell | None = None, keeps_payloads: bool = False) -> None:
        self._bell = bell if bell is not None else Bell()
        self._payloads: asyncio.Queue[str | None] | None = None
        self._heard: tuple[str, ...] | None = None
        """Payloads to be taken; None where some are missing, or nobody has begun to take them."""
        self._is_hinted = False
        self._is_closed = False
        if keeps_payloads:
            self._payloads = asyncio.Queue()

    def hear(self, payload: str) -> None:
        """Something was published, or may have been."""
        self._is_hinted = True
        if payload == RECONNECTED or (self._heard is not None and len(self._heard) >= _MOST_HEARD):
            self._heard = None
        elif self._heard is not None:
            self._heard = (*self._heard, payload)  # thousands of empty lists would be in the way
        self._bell.ring()
        if self._payloads is not None:
            self._payloads.put_nowait(payload)

    def close(self) -> None:
        """Nothing will come any more."""
        self._is_closed = True
        self._bell.ring()
        if self._payloads is not None:
            self._payloads.put_nowait(None)

    def poll(self) -> bool:
        """See `Subscription.poll`."""
        if self._is_closed:
            raise closed_error()
        is_hinted, self._is_hinted = self._is_hinted, False
        return is_hinted

    def take(self) -> tuple[str, ...] | None:
        """Every payload since the last call, oldest first; None where some may be missing.

        The first call is answered with None: payloads are kept from there on.
        """
        heard, self._heard = self._heard, ()
        return heard

    async def wait(self, timeout_s: float) -> bool:
        """See `Subscription.wait`."""
        self._bell.clear()
        if not (self._is_hinted or self._is_closed):
            await self._bell.wait(timeout_s)
        return self.poll()

    async def every_payload(self) -> AsyncIterator[str]:
        """See `Notifications.listen`."""
        if self._payloads is not None:
            while (payload := await self._payloads.get()) is not None:
                yield payload


def closed_error() -> StoreUnavailableError:
    """What those are told who wait for hints of a source that was closed."""
    return StoreUnavailableError("These notifications were closed; use a new client.")
