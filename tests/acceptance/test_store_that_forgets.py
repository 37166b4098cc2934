"""A store that comes back without its latest writes, as after a power cut or a failover."""

import asyncio
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster, CeleryWorkerCluster

from agent_client import AsyncAgentClient, RunStatus
from shared.message import Role
from tests.acceptance.conftest import play, started, worker_at
from tests.celery_nodes.local import LocalRedis
from tests.services import missing
from tests.traces import permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0


async def test_messages_that_the_store_forgot_are_written_again(
    client: AsyncAgentClient,
    celery_backend_cluster: CeleryBackendCluster,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """The worker still knows what it had written; nothing runs again and nothing is missing."""
    store = celery_backend_cluster[0].container
    if not isinstance(store, LocalRedis):
        missing("the append-only file of a server in a container is out of reach")
    run = await client.submit("script", play([("wait", "a")], [("wait", "b")]))
    await worker_at("a", celery_worker_cluster, traces)
    length = _append_only_file(store).stat().st_size
    permit(traces, "a")
    await worker_at("b", celery_worker_cluster, traces)
    before = await run.history()
    store.kill()
    with _append_only_file(store).open("r+b") as log:
        log.truncate(length)
    await asyncio.to_thread(store.restart)
    permit(traces, "b")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    after = await run.history()
    assert [message.id for message in after[: len(before)]] == [message.id for message in before]
    assert [message.position for message in after] == list(range(6))
    assert [message.role for message in after] == [
        Role.USER,
        *(Role.ASSISTANT, Role.TOOL) * 2,
        Role.ASSISTANT,
    ]
    assert started(traces) == ["a", "b"]


def _append_only_file(store: LocalRedis) -> Path:
    """The part that grows: one file up to Redis 6, several since."""
    folder = store.server.data_dir
    [path] = [*folder.glob("appendonlydir/*.incr.aof"), *folder.glob("*.aof")]
    return path
