"""The queue of wake-ups, robbed: messages are caught before a worker gets them.

A thief waits at the queue like a worker, in several places at once (or, on RabbitMQ, with a higher
priority), so it is served before the workers and catches most of what is rung while it is there.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any, Final, Protocol

from amqp.exceptions import AMQPError
from kombu import Connection, Consumer
from kombu import Queue as KombuQueue
from kombu.message import Message
from redis import Redis
from redis.exceptions import RedisError

from shared.celery_app import LOWEST_PRIORITY, build_queue
from shared.settings import Settings

COPIES: Final = 3
"""How often a wake-up that is duplicated is put back."""
_THIEVES: Final = 8
_LOOK_S: Final = 0.5
_AWAY: Final = (RedisError, AMQPError, OSError)
"""The broker is being harmed as well; then there is nothing to catch for a moment."""


class Queue(Protocol):
    """The queue of wake-ups."""

    def rob(self, seconds: float, copies: int) -> int:
        """Catch messages for some seconds, put each back `copies` times; return how many came.

        Blocks. A message that is put back is not caught again by the same call.
        """
        ...

    def remove(self) -> None:
        """Leave nothing behind in a broker that is not ours."""
        ...


class RedisQueue:
    """Celery's lists in Redis, one for each priority."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.effective_broker_url
        name = f"{settings.key_prefix}:celery:{settings.key_prefix}"
        steps = range(LOWEST_PRIORITY + 1)
        self._lists = [name if step == 0 else f"{name}:{step}" for step in steps]

    def rob(self, seconds: float, copies: int) -> int:
        """See `Queue.rob`."""
        caught = _rob_with_threads(lambda: self._catch(seconds))
        # Only now: a thief that began late would catch what another one has put back.
        with Redis.from_url(self._url, socket_timeout=_LOOK_S + 5) as client:
            self._put_back(client, caught, copies)
        return len(caught)

    def remove(self) -> None:
        """Nothing to do: the server is ours, and goes."""

    def _catch(self, seconds: float) -> list[tuple[bytes, bytes]]:
        end = time.monotonic() + seconds
        caught: list[tuple[bytes, bytes]] = []
        with Redis.from_url(self._url, socket_timeout=_LOOK_S + 5) as client:
            while (left := end - time.monotonic()) > 0:
                try:
                    found: Any = client.brpop(self._lists, timeout=min(left, _LOOK_S))
                except _AWAY:
                    time.sleep(0.05)
                    continue
                if found is not None:
                    caught.append(found)
        return caught

    def _put_back(
        self, client: "Redis", caught: Sequence[tuple[bytes, bytes]], copies: int
    ) -> None:
        with suppress(*_AWAY):
            for name, message in caught:
                for _ in range(copies):
                    client.lpush(name, message)


class RabbitQueue:
    """A queue in RabbitMQ."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._url = url
        self._name = settings.key_prefix

    def rob(self, seconds: float, copies: int) -> int:
        """See `Queue.rob`."""
        try:
            with Connection(self._url) as connection:
                caught = self._catch(connection, seconds)
                producer = connection.Producer()
                for message in caught:
                    for _ in range(copies):
                        producer.publish(
                            message.body,
                            routing_key=self._name,
                            headers=message.headers,
                            priority=int(message.properties.get("priority") or 0),
                            correlation_id=message.properties.get("correlation_id"),
                            content_type=message.content_type,
                            content_encoding=message.content_encoding,
                        )
        except _AWAY:
            return 0
        return len(caught)

    def remove(self) -> None:
        """Delete queue and exchange."""
        with suppress(*_AWAY), Connection(self._url) as connection:
            channel: Any = connection.default_channel
            channel.queue_delete(self._name)
            channel.exchange_delete(self._name)

    def _catch(self, connection: Connection, seconds: float) -> list[Message]:
        caught: list[Message] = []

        def take(message: Message) -> None:
            caught.append(message)
            message.ack()

        queue: KombuQueue = build_queue(self._name)
        queue.consumer_arguments = {"x-priority": 10}
        end = time.monotonic() + seconds
        with Consumer(connection, [queue], on_message=take, accept=["json"]):
            while (left := end - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    connection.drain_events(timeout=min(left, _LOOK_S))
        return caught


def _rob_with_threads(
    catch: Callable[[], Sequence[tuple[bytes, bytes]]],
) -> list[tuple[bytes, bytes]]:
    with ThreadPoolExecutor(_THIEVES) as thieves:
        return list(chain.from_iterable(thieves.map(lambda _: catch(), range(_THIEVES))))
