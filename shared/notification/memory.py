"""Notifications within one process."""

from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.notification.bell import Bell
from shared.notification.listener import Listener, closed_error
from shared.notification.protocol import Subscription


class MemoryNotifications:
    """Hints from whoever writes to whoever watches, both in one event loop.

    Not safe to use from several threads or loops.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self._is_closed = False

    def publish(self, topic: str, payload: str) -> None:
        """Hint at a change to everybody who watches `topic` now. Nobody is waited for."""
        for listener in self._listeners.get(topic, ()):
            listener.hear(payload)

    @asynccontextmanager
    async def subscribe(
        self, topic: str, *, bell: Bell | None = None
    ) -> AsyncIterator[Subscription]:
        listener = self._add(topic, Listener(bell=bell))
        try:
            yield listener
        finally:
            self._remove(topic, listener)

    @asynccontextmanager
    async def listen(self, topic: str) -> AsyncIterator[AsyncIterator[str]]:
        listener = self._add(topic, Listener(keeps_payloads=True))
        try:
            yield listener.every_payload()
        finally:
            self._remove(topic, listener)

    async def aclose(self) -> None:
        self._is_closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.close()

    def _add(self, topic: str, listener: Listener) -> Listener:
        if self._is_closed:
            raise closed_error()
        self._listeners[topic].add(listener)
        return listener

    def _remove(self, topic: str, listener: Listener) -> None:
        """The topic goes with its last listener, so that topics do not pile up."""
        self._listeners[topic].discard(listener)
        if not self._listeners[topic]:
            del self._listeners[topic]
