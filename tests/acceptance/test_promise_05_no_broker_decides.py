"""Promise 5: no run depends on how long a broker lets a message stay unacknowledged."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis import Redis

from agent_client import AsyncAgentClient, RunStatus
from shared.celery_app import build_queue, create_celery_app
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play, started
from tests.acceptance.deployment import Deployment, deploy
from tests.services import missing
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S: Final = 40.0
RABBITMQ: Final = os.environ.get("AGENTS_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Deployment]:
    """A system without workers."""
    with deploy(tmp_path) as system:
        yield system


async def test_redis_has_no_message_to_give_again_while_a_run_goes_on(
    system: Deployment,
) -> None:
    """No visibility timeout ends: what a worker took, the broker does not know any more."""
    await system.add()
    script = play([("note", "a")], [("wait", "gate")], [("note", "b")])
    async with AsyncAgentClient(system.settings) as client:
        run = await client.submit("script", script)
        await _in_tool(system)
        with Redis.from_url(system.broker.url) as broker:
            assert broker.hlen("agents:celery:unacked") == 0, "a ring is still held back"
        # A consumer offers again what is due when it begins to consume.
        await system.add()
        others = [await client.submit("script", play([("note", "other")])) for _ in range(8)]
        for other in others:
            await other.result(timeout_s=RESULT_S)
        permit(system.traces, "gate")
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
        assert (await run.get()).attempts == 1
    assert started(system.traces) == ["a", "b", "gate"] + ["other"] * 8


@pytest.fixture
def queue(system: Deployment) -> Iterator[tuple[Settings, str]]:
    """Settings for RabbitMQ with a queue of one's own, and that queue's name."""
    place = urlsplit(RABBITMQ)
    try:
        socket.create_connection((place.hostname or "", place.port or 5672), timeout=2).close()
    except OSError:
        missing(f"No RabbitMQ answers at {place.hostname}:{place.port}.")
    name = f"test-{uuid4().hex}"
    found = {"redis_url": system.store.url, "broker_url": RABBITMQ, "key_prefix": name}
    settings = Settings.model_validate(found)
    yield settings, name
    app = create_celery_app(settings)
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.queue_delete(name)
    app.close()


async def test_rabbitmq_has_no_message_to_give_again_while_a_run_goes_on(
    system: Deployment, queue: tuple[Settings, str]
) -> None:
    """Its limit for consumers counts unacknowledged messages, and there is none.

    A message that was not acknowledged would be back on the queue when its consumer is killed.
    """
    settings, name = queue
    worker = await system.add(broker_url=RABBITMQ, key_prefix=name)
    async with AsyncAgentClient(settings) as client:
        await client.submit("script", play([("wait", "gate")]))
        await _in_tool(system)
    worker.kill()
    app = create_celery_app(settings)

    def look() -> tuple[int, int]:
        """Messages and consumers."""
        with app.connection_for_read() as connection:
            found: Any = build_queue(name)(connection.default_channel).queue_declare(passive=True)
            return found.message_count, found.consumer_count

    async def has_noticed() -> bool:
        return (await asyncio.to_thread(look))[1] == 0

    await eventually(has_noticed)
    assert (await asyncio.to_thread(look))[0] == 0
    await asyncio.to_thread(app.close)


async def _in_tool(system: Deployment) -> None:
    async def has_begun() -> bool:
        return any(each["name"] == "gate" for each in executions(system.traces))

    await eventually(has_begun, timeout_s=RESULT_S)
