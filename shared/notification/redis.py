"""Notifications over Redis pub/sub: one connection for all topics of a process."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from shared.errors import ConfigurationError, StoreUnavailableError
from shared.notification.bell import Bell
from shared.notification.listener import RECONNECTED, Listener, closed_error
from shared.redis_cluster import AnyNode

log = structlog.get_logger()

IDLE_S: Final = 10.0
"""After so long without a word the connection is pinged, and after as long again it is given up."""


def _unexplained(_: Exception) -> None:
    return None


class RedisNotifications:
    """See `Notifications`. A topic is a pub/sub channel.

    One task owns the connection. When it breaks, the task opens another one, for ever, subscribes
    to everything that has a listener and gives each a hint, since something may have been
    published meanwhile. `explain` tells the errors that no waiting helps against, and what to do.
    """

    def __init__(
        self,
        client: Redis | AnyNode,
        *,
        keep_alive_topic: str,
        timeout_s: float,
        explain: Callable[[Exception], ConfigurationError | None] = _unexplained,
    ) -> None:
        self._explain = explain
        self._client = client
        self._keep_alive_topic = keep_alive_topic
        self._timeout_s = timeout_s
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._confirmed: dict[str, asyncio.Event] = {}
        self._unconfirmed: Counter[str] = Counter()
        """Subscribes sent over the live connection that Redis has not confirmed yet."""
        self._untold: list[tuple[str, str]] = []
        """Commands and topics that wait to be sent, in order."""
        self._teller: asyncio.Task[None] | None = None
        self._pubsub: PubSub | None = None
        """The live connection; None while there is none."""
        self._reader: asyncio.Task[None] | None = None
        self._refusal: ConfigurationError | None = None
        """Why Redis let nobody listen when it was last asked, if it did not."""
        self._is_closed = False

    @asynccontextmanager
    async def subscribe(
        self, topic: str, *, bell: Bell | None = None
    ) -> AsyncGenerator[Listener, None]:
        """Listen to a topic; see `Notifications.subscribe`."""
        listener = Listener(bell=bell)
        await self._add(topic, listener)
        try:
            yield listener
        finally:
            await self._remove(topic, listener)

    @asynccontextmanager
    async def listen(self, topic: str) -> AsyncGenerator[AsyncIterator[str], None]:
        """Every payload of a topic; an empty one means that some may have been missed."""
        listener = Listener(keeps_payloads=True)
        await self._add(topic, listener)
        try:
            yield listener.every_payload()
        finally:
            await self._remove(topic, listener)

    async def aclose(self) -> None:
        """End the reader and give the connection back; see `Notifications.aclose`."""
        self._is_closed = True
        for listeners in list(self._listeners.values()):
            for listener in list(listeners):
                listener.close()
        tasks = [task for task in (self._reader, self._teller) if task is not None]
        self._reader = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._client.aclose()

    async def _add(self, topic: str, listener: Listener) -> None:
        if self._is_closed:
            raise closed_error()
        self._listeners[topic].add(listener)
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._serve(), name="notifications")
        confirmed = self._confirmed.get(topic)
        try:
            if confirmed is None:
                confirmed = self._confirmed[topic] = asyncio.Event()
                self._tell("subscribe", topic)
            async with asyncio.timeout(self._timeout_s):
                await confirmed.wait()
        except TimeoutError as error:
            await self._remove(topic, listener)
            if self._refusal is not None:
                raise self._refusal from error
            raise StoreUnavailableError(
                f"Redis confirmed no subscription within {self._timeout_s:g} s. Check that it runs "
                "and AGENTS_REDIS_URL; trying again is safe."
            ) from error
        except BaseException:
            await self._remove(topic, listener)
            raise

    async def _remove(self, topic: str, listener: Listener) -> None:
        self._listeners[topic].discard(listener)
        if not self._listeners[topic]:
            del self._listeners[topic]
            self._confirmed.pop(topic, None)
            self._tell("unsubscribe", topic)

    def _tell(self, command: str, topic: str) -> None:
        """Send a (un)subscribe, if there is a connection.

        Otherwise nothing is lost: the next one starts from the listeners that there are then.
        """
        if self._pubsub is None:
            return
        if command == "subscribe":
            self._unconfirmed[topic] += 1
        self._untold.append((command, topic))
        if self._teller is None or self._teller.done():
            self._teller = asyncio.create_task(self._tell_all(), name="subscriptions")

    async def _tell_all(self) -> None:
        """Send what waits; those that follow each other with one command go together."""
        while self._untold and (pubsub := self._pubsub) is not None:
            untold, self._untold = self._untold, []
            for command, pairs in groupby(untold, key=itemgetter(0)):
                if self._pubsub is not pubsub:
                    break  # the next connection knows better, and has other subscribers by now
                topics = [topic for _, topic in pairs]
                try:
                    await getattr(pubsub, command)(*topics)
                except (RedisError, OSError) as error:
                    log.debug("notifications.command_failed", command=command, error=str(error))

    async def _serve(self) -> None:
        """Keep a connection open and hand out what arrives. Ends only by being cancelled."""
        delay_s = 0.1
        while True:
            pubsub = self._client.pubsub()
            try:
                await pubsub.subscribe(self._keep_alive_topic)
                delay_s = 0.1
                await self._take_over(pubsub)
                await self._read(pubsub)
            except (RedisError, OSError, TimeoutError) as error:
                self._refusal = self._explain(error)
                log.warning("notifications.disconnected", error=str(error), retry_s=delay_s)
            finally:
                self._pubsub = None
                await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 2.0)

    async def _take_over(self, pubsub: PubSub) -> None:
        """Subscribe a new connection to everything that has a listener.

        Who begins to listen from here on subscribes by himself. If this came to pass any later, or
        the topics were collected any earlier, somebody in between would be forgotten.
        """
        self._pubsub = pubsub
        self._untold.clear()
        self._unconfirmed = Counter(self._listeners.keys())
        if self._listeners:
            await pubsub.subscribe(*self._listeners)

    async def _read(self, pubsub: PubSub) -> None:
        is_pinged = False
        while True:
            entry = await pubsub.get_message(timeout=IDLE_S)
            if entry is not None:
                is_pinged = False
                self._hand_out(entry)
            elif is_pinged:
                raise TimeoutError(f"no answer to a ping for {IDLE_S:g} s")
            else:
                is_pinged = True
                await pubsub.ping()

    def _hand_out(self, entry: dict[str, Any]) -> None:
        topic = entry["channel"]
        if entry["type"] == "subscribe":
            self._confirm(topic)
        elif entry["type"] == "message":
            self._tell_listeners(topic, entry["data"])

    def _confirm(self, topic: str) -> None:
        """Note that Redis has followed one subscribe.

        Only the last one that was sent counts: an earlier one may have been undone since. On a new
        connection, something may have been published until now.
        """
        self._unconfirmed[topic] -= 1
        if self._unconfirmed[topic] > 0:
            return
        del self._unconfirmed[topic]
        confirmed = self._confirmed.get(topic)
        if confirmed is None:
            return
        self._refusal = None
        if confirmed.is_set():
            self._tell_listeners(topic, RECONNECTED)
        confirmed.set()

    def _tell_listeners(self, topic: str, payload: str) -> None:
        for listener in list(self._listeners.get(topic, ())):
            listener.hear(payload)
