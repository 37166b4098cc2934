"""What a worker warns of when it starts: a server that forgets."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from structlog.testing import capture_logs

from agent_worker.local import build_local_runtime
from shared.backend import Backend
from shared.settings import Settings
from tests.contract.harness import ClusterHarness, RedisHarness, RestrictedHarness
from tests.services import RedisServer
from tests.topologies.cluster import RedisCluster

pytestmark = pytest.mark.integration

SAFE = {"appendonly": "yes", "maxmemory-policy": "noeviction"}


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Any]:
    with Redis.from_url(redis_server.url) as client:
        before = {name: client.config_get(name)[name] for name in SAFE}
        yield client
        for name, value in before.items():
            client.config_set(name, value)


@pytest.fixture
async def harness(redis_server: RedisServer) -> AsyncIterator[RedisHarness]:
    harness = RedisHarness(redis_server.url, f"test-{uuid4().hex}")
    yield harness
    await harness.aclose()


async def warnings(backend: Backend) -> list[str]:
    """The risks that a worker logs when it starts, each with what to do."""
    runtime, dispatcher = build_local_runtime(Settings(), backend, {})
    with capture_logs() as entries:
        await runtime.start()
    await runtime.shutdown(0)
    await dispatcher.aclose()
    found = [entry for entry in entries if entry["event"] == "store.unsafe"]
    assert all("set " in entry["advice"] for entry in found)
    return [entry["risk"] for entry in found]


@pytest.mark.parametrize(
    ("change", "warned_of"),
    [
        ({}, []),
        ({"appendonly": "no"}, ["no_append_only_file"]),
        ({"maxmemory-policy": "allkeys-lru"}, ["eviction"]),
        ({"maxmemory-policy": "volatile-ttl"}, ["eviction"]),
    ],
    ids=["safe", "no append-only file", "evicts all", "evicts what expires"],
)
async def test_a_server_that_forgets_is_warned_of(
    redis: Any, harness: RedisHarness, change: dict[str, str], warned_of: list[str]
) -> None:
    """With the setting that makes it safe."""
    for name, value in (SAFE | change).items():
        redis.config_set(name, value)
    assert await warnings(harness.open()) == warned_of


async def test_who_may_not_ask_starts_all_the_same(redis_server: RedisServer) -> None:
    """The documented rights of a client do not hold INFO; nothing is warned of, nothing fails."""
    harness = RestrictedHarness(redis_server.url, f"test-{uuid4().hex}")
    try:
        assert await warnings(harness.open()) == []
    finally:
        await harness.aclose()


async def test_every_node_of_a_cluster_is_looked_at(redis_cluster: RedisCluster) -> None:
    """One that forgets is enough."""
    harness = ClusterHarness(redis_cluster.url, f"test-{uuid4().hex}")
    try:
        for server in redis_cluster.nodes:
            with Redis(port=server.port) as node:
                node.config_set("maxmemory-policy", "allkeys-lru")
                assert "eviction" in await warnings(harness.open())
                node.config_set("maxmemory-policy", "noeviction")
    finally:
        await harness.aclose()
