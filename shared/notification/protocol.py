"""Notifications: "look again", pushed from whoever writes to whoever watches.

A notification is a hint and the store is the truth: one may be lost, doubled or late, and nothing
is wrong except that somebody looks a little later. So a watcher reads, waits for a hint, and reads
again.

What a hint says besides, its payload, may be believed where those who watch are told of each one
that may be missing: `Listener.take` and `Notifications.listen` do so.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from shared.notification.bell import Bell


class Subscription(Protocol):
    """One watcher's view of one topic."""

    async def wait(self, timeout_s: float) -> bool:
        """Wait until something was published since the last call returned.

        Returns False when `timeout_s` passed without. A hint that arrived between two calls is
        remembered, so a watcher that reads after subscribing and before waiting misses nothing.
        Several hints count as one. A lost connection counts as a hint once it is back.

        Raises:
            StoreUnavailableError: The notifications were closed, now or before.
        """
        ...

    def poll(self) -> bool:
        """Whether something was published since the last `wait` or `poll` returned.

        For who shares a bell between subscriptions, and wants to know which of them rang it.

        Raises:
            StoreUnavailableError: The notifications were closed.
        """
        ...


class Notifications(Protocol):
    """Where hints come from. All subscriptions of one object share one connection."""

    def subscribe(
        self, topic: str, *, bell: Bell | None = None
    ) -> AbstractAsyncContextManager[Subscription]:
        """Listen to `topic` for as long as the context lasts.

        Entering returns once hints published from now on will arrive. `bell` is rung with each, in
        the event loop of the subscriber, and when the notifications are closed.

        Raises:
            StoreUnavailableError: On entering, when the service cannot be reached.
        """
        ...

    def listen(self, topic: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Every payload published to `topic` while the context lasts, in order.

        An empty payload means that some may have been missed, after a lost connection. The
        iterator ends when the notifications are closed.

        Raises:
            StoreUnavailableError: On entering, when the service cannot be reached.
        """
        ...

    async def aclose(self) -> None:
        """End every subscription and give the connection back. Closing twice is harmless."""
        ...
