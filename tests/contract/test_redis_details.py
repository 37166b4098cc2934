"""What only Redis can get wrong: ties, ids at the end of their range, a server in trouble."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.backend import Backend
from shared.errors import ConfigurationError, InvalidCursorError, StoreUnavailableError
from shared.redis_keys import Keys
from shared.testing.conversation.value import conversation_name
from shared.testing.waiting import eventually
from tests.contract.harness import RedisHarness
from tests.contract.values import AGENT, lease_new, new_run, worker
from tests.services import RedisServer

pytestmark = pytest.mark.integration

MILLISECOND = 1_763_661_731_001


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def key_prefix() -> str:
    return f"test-{uuid4().hex}"


@pytest.fixture
async def harness(redis_server: RedisServer, key_prefix: str) -> AsyncIterator[RedisHarness]:
    harness = RedisHarness(redis_server.url, key_prefix)
    yield harness
    await harness.aclose()


@pytest.mark.parametrize("limit", [1, 10, 100])
async def test_any_number_of_runs_may_share_a_millisecond(
    redis: Redis, key_prefix: str, backend: Backend, limit: int
) -> None:
    """Pages follow each other through them; no run is missing or there twice."""
    name, keys = conversation_name(), Keys(key_prefix)
    submitted = [(await backend.ledger.submit(new_run(name))).run.id for _ in range(150)]
    for run_id in submitted:
        await redis.hset(keys.run(run_id), "created", str(MILLISECOND))
        await redis.zadd(keys.runs(name), {run_id: MILLISECOND})
    listed: list[str] = []
    while page := await backend.ledger.list_runs(
        conversation_id=name, limit=limit, before=listed[-1] if listed else None
    ):
        listed += [run.id for run in page]
    assert len(listed) == len(submitted)
    assert set(listed) == set(submitted)


async def test_after_an_outage_of_any_length_workers_have_their_runs(
    redis: Redis, key_prefix: str, backend: Backend
) -> None:
    """The registry forgets the dead after a while; who could not beat is not among them."""
    lease = await lease_new(backend.ledger)
    keys, an_hour_ms = Keys(key_prefix), 3_600_000
    leases = f"{keys.tag_of_run(lease.run.id)}:leases:worker-1"
    for index, member in ((keys.workers, "worker-1"), (leases, lease.run.id)):
        await redis.zincrby(index, -an_hour_ms, member)
    await backend.ledger.beat(worker("worker-2"))
    swept = await backend.ledger.sweep("worker-2", agents=[AGENT], limit=5)
    assert swept.reclaimed == ()


@pytest.mark.parametrize("cursor", ["0-0", f"{2**64}-0", f"{2**64 - 1}-{2**64 - 1}"])
async def test_ids_that_no_entry_has_are_not_cursors(backend: Backend, cursor: str) -> None:
    """Redis refuses a range that starts behind the last id of all, or one that is no id."""
    with pytest.raises(InvalidCursorError):
        await backend.conversations.list_messages("room", after=cursor)
    with pytest.raises(InvalidCursorError):
        await backend.conversations.list_messages("room", before=cursor)
    assert await backend.ledger.list_events(new_run().id, limit=0) == []


async def test_a_database_that_is_not_there_is_a_mistake(
    redis_server: RedisServer, harness: RedisHarness
) -> None:
    """Waiting for it would help nobody; the error names the setting."""
    url = f"{redis_server.url.rpartition('/')[0]}/9999"
    with pytest.raises(ConfigurationError, match="AGENTS_REDIS_URL"):
        await harness.open(redis_url=url).ledger.list_workers()


@pytest.mark.parametrize(
    ("trouble", "relief"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
        ),
    ],
    ids=["full", "replica", "without replicas"],
)
async def test_a_server_that_takes_no_writes_is_away(
    redis: Any, backend: Backend, trouble: tuple[str, ...], relief: tuple[str, ...]
) -> None:
    """Full, or in the middle of a failover: workers wait for it; another error would end them."""
    ledger = backend.ledger
    await redis.execute_command(*trouble)
    try:
        with pytest.raises(StoreUnavailableError):
            await ledger.beat(worker())
        with pytest.raises(StoreUnavailableError):
            await ledger.submit(new_run())
    finally:
        await redis.execute_command(*relief)
    assert (await ledger.submit(new_run())).is_new


async def test_a_token_that_the_server_forgot_is_not_given_again(
    redis: Redis, key_prefix: str, backend: Backend
) -> None:
    """A zombie with the forgotten one stays a zombie."""
    run = (await backend.ledger.submit(new_run("room"))).run
    first = await backend.ledger.lease(run.id, "worker-1", agents=[AGENT])
    assert first is not None
    await backend.ledger.hand_over(first)
    await redis.delete(Keys(key_prefix).history("room"))
    await redis.hdel(Keys(key_prefix).conversation("room"), "token")
    second = await backend.ledger.lease(run.id, "worker-2", agents=[AGENT])
    assert second is not None
    assert second.fencing_token > first.fencing_token


async def test_a_suspect_that_is_none_any_more_hides_no_other(
    redis: Redis, key_prefix: str, harness: RedisHarness
) -> None:
    """A worker of an earlier version takes runs without looking where suspects are kept."""
    ledger, keys = harness.open(max_crashes=2).ledger, Keys(key_prefix)
    running = await lease_new(ledger, worker_id="worker-2")
    suspect = await lease_new(ledger)

    async def is_reclaimed() -> bool:
        await ledger.beat(worker("worker-2"))
        await ledger.sweep("worker-2", agents=[AGENT], limit=0)
        return (await ledger.get(suspect.run.id)).is_suspect

    await eventually(is_reclaimed)
    index = f"{keys.tag_of_run(suspect.run.id)}:suspects:{AGENT}"
    await redis.zadd(index, {running.run.id: 1, "run-7-gone": 1})
    swept = await ledger.sweep("worker-2", agents=[AGENT], limit=0)
    assert swept.suspects == (suspect.run.id,)
    assert await redis.zcard(index) == 1
