"""Notifications within one process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from shared.errors import StoreUnavailableError
from shared.notification.protocol import Subscription

Watcher = TypeVar("Watcher")

_CLOSED: Final = "These notifications were closed; open a new backend to go on watching."


class MemoryNotifications:
    """Hints from whoever writes to whoever watches, both in one event loop.

    Not safe to use from several threads or loops.
    """

    def __init__(self) -> None:
        self._subscriptions: dict[str, set[_MemorySubscription]] = defaultdict(set)
        self._listeners: dict[str, set[asyncio.Queue[str | None]]] = defaultdict(set)
        self._is_closed = False

    def publish(self, topic: str, payload: str) -> None:
        """Hint at a change to everybody who watches `topic` now. Nobody is waited for."""
        for subscription in self._subscriptions.get(topic, ()):
            subscription.hint()
        for queue in self._listeners.get(topic, ()):
            queue.put_nowait(payload)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[Subscription]:
        self._check_open()
        subscription = _MemorySubscription()
        self._subscriptions[topic].add(subscription)
        try:
            yield subscription
        finally:
            _drop(self._subscriptions, topic, subscription)

    @asynccontextmanager
    async def listen(self, topic: str) -> AsyncIterator[AsyncIterator[str]]:
        self._check_open()
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners[topic].add(queue)
        try:
            yield _until_none(queue)
        finally:
            _drop(self._listeners, topic, queue)

    async def aclose(self) -> None:
        self._is_closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()
        for queues in self._listeners.values():
            for queue in queues:
                queue.put_nowait(None)

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreUnavailableError(_CLOSED)


class _MemorySubscription:
    """Remembers one hint, however many arrive: they all say "look again"."""

    def __init__(self) -> None:
        self._hinted = asyncio.Event()
        self._is_closed = False

    def hint(self) -> None:
        self._hinted.set()

    def close(self) -> None:
        self._is_closed = True
        self._hinted.set()

    async def wait(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._hinted.wait()
        except TimeoutError:
            return False
        if self._is_closed:
            raise StoreUnavailableError(_CLOSED)
        self._hinted.clear()
        return True


async def _until_none(queue: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    while (payload := await queue.get()) is not None:
        yield payload


def _drop(watchers: dict[str, set[Watcher]], topic: str, watcher: Watcher) -> None:
    """Remove a watcher, and the topic with its last one, so that topics do not pile up."""
    watchers[topic].discard(watcher)
    if not watchers[topic]:
        del watchers[topic]
