"""Real workers under pytest-celery: brokers, rings, shutdown."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from pytest_celery import CeleryTestSetup, CeleryWorkerCluster

from agent_client import AsyncAgentClient, RunStatus
from agent_worker.testing import WorkerProcess
from shared.celery_app import WAKE_TASK, create_celery_app
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play
from tests.celery_nodes.fixtures import REPOSITORY
from tests.celery_nodes.local import WorkerNode, wait_until
from tests.services import missing
from tests.traces import FOLDER, executions, permit

pytestmark = pytest.mark.integration

RESULT_S = 40.0
RABBITMQ_VARIABLE = "AGENTS_TEST_RABBITMQ_URL"
DEFAULT_RABBITMQ = "amqp://guest:guest@127.0.0.1:5672//"


@pytest.fixture
async def client(
    agents_settings: Settings, celery_worker_cluster: CeleryWorkerCluster
) -> AsyncAgentClient:
    """A client of the two workers."""
    return AsyncAgentClient(agents_settings)


def test_the_setup_is_ready(celery_setup: CeleryTestSetup) -> None:
    """Broker, store and two workers are nodes of one pytest-celery setup, and all are up."""
    assert celery_setup.ready(docker=True)
    assert len(celery_setup) == 4


async def test_rubbish_on_the_queue_stops_nobody(
    client: AsyncAgentClient, agents_settings: Settings, celery_worker_cluster: CeleryWorkerCluster
) -> None:
    """Messages that are no rings are dropped and named in the log; the next run is executed."""
    app = create_celery_app(agents_settings)
    rubbish = [(), (17,), ({"run": "x"},), ("../../etc/passwd",), ("run-0-zzz",), ("x" * 100_000,)]
    for arguments in rubbish:
        app.send_task(WAKE_TASK, args=arguments, queue=agents_settings.queue_of("script"))
    app.send_task("os.system", args=("true",), queue=agents_settings.queue_of("script"))
    await asyncio.to_thread(app.close)
    async with client:
        run = await client.submit("script", play([("note", "a")]))
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED

    def dropped() -> bool:
        logs = "".join(worker.logs() for worker in celery_worker_cluster)
        return logs.count("ring.malformed") >= len(rubbish)

    await asyncio.to_thread(wait_until, dropped)


async def test_a_worker_that_is_told_to_stop_hands_its_run_over(
    client: AsyncAgentClient, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """SIGTERM in the middle of a tool: the worker leaves with exit code 0, the run goes on."""
    async with client:
        run = await client.submit("script", play([("wait", "gate")], [("note", "b")]))

        async def pid_at_gate() -> int | None:
            return next((each["pid"] for each in executions(traces)), None)

        pid = await eventually(pid_at_gate, timeout_s=RESULT_S)
        leaver: WorkerNode = next(
            node for node in celery_worker_cluster if node.container.process.pid == pid
        )
        leaver.kill("SIGTERM")
        await asyncio.to_thread(leaver.wait_exited)
        assert leaver.container.process.returncode == 0
        permit(traces, "gate")
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
        record = await run.get()
    assert record.attempts == 2
    assert record.crashes == 0, "leaving is not crashing"


@pytest.fixture
def rabbitmq_url() -> str:
    """A RabbitMQ that runs here."""
    url = os.environ.get(RABBITMQ_VARIABLE, DEFAULT_RABBITMQ)
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname or "", place.port or 5672), timeout=2).close()
    except OSError:
        missing(f"No RabbitMQ answers at {place.hostname}:{place.port} ({RABBITMQ_VARIABLE}).")
    return url


@pytest.fixture
def rabbitmq_settings(rabbitmq_url: str, agents_settings: Settings) -> Iterator[Settings]:
    """Rings through RabbitMQ; a sweep would find a run that was not rung for after an hour only."""
    settings = Settings.model_validate(
        {
            "redis_url": agents_settings.redis_url,
            "broker_url": rabbitmq_url,
            "key_prefix": f"test-{uuid4().hex}",
            "pickup_s": 3600,
        }
    )
    yield settings
    app = create_celery_app(settings, [settings.key_prefix])
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        channel.queue_delete(settings.key_prefix)
    app.close()


async def test_rings_go_through_rabbitmq_as_well(rabbitmq_settings: Settings, traces: Path) -> None:
    """With RabbitMQ as the broker a run is rung for, executed and watched."""
    environment = {
        "AGENTS_REDIS_URL": rabbitmq_settings.redis_url.get_secret_value(),
        "AGENTS_BROKER_URL": rabbitmq_settings.effective_broker_url,
        "AGENTS_KEY_PREFIX": rabbitmq_settings.key_prefix,
        "AGENTS_PICKUP_S": "3600",
        FOLDER: str(traces),
    }
    worker = WorkerProcess("tests.agents", environment=environment, cwd=REPOSITORY)
    try:
        await asyncio.to_thread(worker.start().wait_ready)
        async with AsyncAgentClient(rabbitmq_settings) as client:
            runs = [await client.submit("script", play([("note", "a")])) for _ in range(10)]
            outcomes = [await run.result(timeout_s=RESULT_S) for run in runs]
            assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 20) == 0
    except subprocess.TimeoutExpired:
        pytest.fail(f"the worker did not leave; its log ends with {worker.log()[-2000:]}")
    finally:
        await asyncio.to_thread(worker.stop)
