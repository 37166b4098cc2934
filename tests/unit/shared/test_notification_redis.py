"""The connection behind Redis's notifications, over a server whose answers a test times."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.notification.redis import RedisNotifications
from shared.testing.waiting import eventually


class Connection:
    """Stands for redis-py's client and its pub/sub: says what was sent, answers when told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, ...]] = []
        self.is_open = asyncio.Event()
        self.is_open.set()
        self._answers: asyncio.Queue[dict[str, Any] | Exception] = asyncio.Queue()

    def pubsub(self) -> "Connection":
        return self

    async def subscribe(self, *topics: str) -> None:
        await self.is_open.wait()
        self.sent.append(("subscribe", *topics))

    async def unsubscribe(self, *topics: str) -> None:
        self.sent.append(("unsubscribe", *topics))

    async def get_message(self, timeout: float) -> dict[str, Any]:  # noqa: ASYNC109
        answer = await self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Nothing to close."""

    def confirm(self, topic: str) -> None:
        self._answers.put_nowait({"type": "subscribe", "channel": topic, "data": 1})

    def breaks(self) -> None:
        self._answers.put_nowait(RedisConnectionError("gone"))

    async def until_sent(self, *command: str, times: int = 1) -> None:
        async def is_sent() -> bool:
            return self.sent.count(command) == times

        await eventually(is_sent)


@pytest.fixture
def connection() -> Connection:
    return Connection()


@pytest.fixture
def notifications(connection: Connection) -> RedisNotifications:
    client: Any = connection
    return RedisNotifications(client, keep_alive_topic="keep", timeout_s=5)


class Watcher:
    """Subscribes in a task of its own."""

    def __init__(self, notifications: RedisNotifications, topic: str) -> None:
        self.is_in = asyncio.Event()
        self.hints = 0
        self.task = asyncio.create_task(self._watch(notifications, topic))

    async def _watch(self, notifications: RedisNotifications, topic: str) -> None:
        async with notifications.subscribe(topic) as subscription:
            self.is_in.set()
            while True:
                self.hints += await subscription.wait(60)

    async def leave(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_who_comes_while_the_connection_opens_is_not_forgotten(
    connection: Connection, notifications: RedisNotifications
) -> None:
    """Both topics are subscribed to, though one came after the connection was asked for."""
    connection.is_open.clear()
    first = Watcher(notifications, "a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = Watcher(notifications, "b")
    await asyncio.sleep(0)
    connection.is_open.set()
    await connection.until_sent("subscribe", "a", "b")
    connection.confirm("a")
    connection.confirm("b")
    async with asyncio.timeout(1):
        await first.is_in.wait()
        await second.is_in.wait()
    await first.leave()
    await second.leave()
    await notifications.aclose()


async def test_the_answer_to_a_subscribe_that_was_undone_counts_for_nobody(
    connection: Connection, notifications: RedisNotifications
) -> None:
    """Who subscribes next would otherwise be let in before anything can reach it."""
    other = Watcher(notifications, "other")
    await connection.until_sent("subscribe", "other")
    connection.confirm("other")
    await other.is_in.wait()
    first = Watcher(notifications, "a")
    await connection.until_sent("subscribe", "a")
    await first.leave()
    second = Watcher(notifications, "a")
    await connection.until_sent("subscribe", "a", times=2)
    connection.confirm("a")
    for _ in range(5):
        await asyncio.sleep(0)
    assert not second.is_in.is_set()
    connection.confirm("a")
    async with asyncio.timeout(1):
        await second.is_in.wait()
    await second.leave()
    await other.leave()
    assert not notifications._unconfirmed
    assert not notifications._confirmed
    await notifications.aclose()


async def test_the_hint_after_an_outage_comes_when_the_topic_is_heard_again(
    connection: Connection, notifications: RedisNotifications
) -> None:
    """Who looked earlier could miss what is published between the look and the subscribe."""
    watcher = Watcher(notifications, "a")
    await connection.until_sent("subscribe", "a")
    connection.confirm("a")
    await watcher.is_in.wait()
    connection.breaks()
    await connection.until_sent("subscribe", "a", times=2)
    for _ in range(5):
        await asyncio.sleep(0)
    assert watcher.hints == 0
    connection.confirm("a")

    async def is_hinted() -> bool:
        return watcher.hints == 1

    await eventually(is_hinted)
    await watcher.leave()
    await notifications.aclose()
