"""What only Redis can hold: entries that are not ours, under our keys. Each costs itself alone."""

from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.backend import Backend
from shared.conversation.protocol import Writer
from shared.errors import CorruptEntryError, TamperedError, UnknownRunError
from shared.identifier import new_run_id
from shared.redis_keys import Keys
from shared.run import RunStatus
from shared.testing.conversation.value import (
    conversation_name,
    imported,
    message,
    messages,
    texts,
)
from shared.testing.waiting import eventually
from tests.contract.harness import SEALED, RedisHarness
from tests.contract.values import AGENT, COMPLETED, new_run, take, worker
from tests.garbage import GARBAGE
from tests.services import RedisServer

pytestmark = pytest.mark.integration

RECORD = (
    "new", "agent", "history", "conversation", "priority", "digest", "created", "attempts",
    "crashes", "status", "token", "worker", "started", "cancel", "rollback", "ending", "finished",
)  # fmt: skip
VITAL = ("new", "agent", "created", "attempts", "crashes")
"""Without these, nobody can execute the run."""
_tokens = count(1)
"""Fencing tokens; a retract uses one up."""

both = pytest.mark.parametrize("harness", [{}, SEALED], indirect=True, ids=["plain", "sealed"])
"""Where runs are encrypted, they need a newer version, and are found in indexes of their own."""

SOME_GARBAGE = [value for value in GARBAGE if len(value) < 10_000]


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Any]:
    async with Redis.from_url(redis_server.url) as client:
        yield client


@pytest.fixture
def keys() -> Keys:
    return Keys(f"test-{uuid4().hex}")


@pytest.fixture
async def harness(
    request: pytest.FixtureRequest, redis_server: RedisServer, keys: Keys
) -> AsyncIterator[RedisHarness]:
    harness = RedisHarness(redis_server.url, keys.prefix, always=getattr(request, "param", {}))
    yield harness
    await harness.aclose()


async def outcome_of_reading(backend: Backend, run_id: str) -> str | None:
    """The status of a run, `unreadable`, or None if there is no such run."""
    try:
        run = await backend.ledger.get(run_id)
        run.model_dump_json()
    except CorruptEntryError:
        return "unreadable"
    except UnknownRunError:
        return None
    return run.status.value


@both
@pytest.mark.parametrize("field", RECORD)
async def test_a_damaged_field_costs_one_run(
    redis: Any, keys: Keys, backend: Backend, field: str
) -> None:
    """Whatever a field of a run's record holds: it is read or named unreadable, others are listed,
    and a worker that comes to lease it has a lease or the named error, nothing else."""
    ledger = backend.ledger
    healthy = (await ledger.submit(new_run())).run.id
    await ledger.beat(worker())
    for value in (None, *SOME_GARBAGE):
        run_id = (await ledger.submit(new_run())).run.id
        if value is None:
            await redis.hdel(keys.run(run_id), field)
        else:
            await redis.hset(keys.run(run_id), field, value)
        await outcome_of_reading(backend, run_id)
        assert healthy in {run.id for run in await ledger.list_runs(limit=1000)}
        for call in (
            ledger.lease(run_id, "worker-1", agents=[AGENT]),
            ledger.cancel(run_id),
            ledger.withdraw(run_id),
            ledger.list_events(run_id),
        ):
            with suppress(CorruptEntryError, UnknownRunError):
                await call
        await ledger.sweep("worker-1", agents=[AGENT], limit=10)
    await take(ledger, healthy)


@both
@pytest.mark.parametrize("field", VITAL)
async def test_a_run_that_nobody_can_execute_fails_and_its_conversation_goes_on(
    redis: Any, keys: Keys, backend: Backend, field: str
) -> None:
    """It is not leased again and again; what waited behind it is ready."""
    ledger, name = backend.ledger, conversation_name()
    broken = (await ledger.submit(new_run(name))).run.id
    following = (await ledger.submit(new_run(name))).run.id
    await redis.hset(keys.run(broken), field, b"\xff\xfe")
    await ledger.beat(worker())
    with pytest.raises(CorruptEntryError):
        await ledger.lease(broken, "worker-1", agents=[AGENT])
    record: Any = await redis.hgetall(keys.run(broken))
    assert record[b"status"] == b"failed"
    assert await redis.pttl(keys.run(broken)) > 0
    sweep = await ledger.sweep("worker-1", agents=[AGENT], limit=10)
    assert broken not in sweep.leased
    assert broken not in sweep.overdue
    async for index in redis.scan_iter(f"{keys.tag_of_run(broken)}:ready:*{AGENT}"):
        assert await redis.zscore(index, broken) is None, "no sweep comes upon it again"
    assert (await take(ledger, following)).run.id == following


async def test_a_record_of_another_run_is_not_executed(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """What was submitted is compared with the fields that scripts go by."""
    ledger = backend.ledger
    first = (await ledger.submit(new_run(input="first"))).run.id
    second = (await ledger.submit(new_run(input="second"))).run.id
    stolen: Any = await redis.hget(keys.run(first), "new")
    await redis.hset(keys.run(second), "new", stolen)
    await ledger.beat(worker())
    with pytest.raises(CorruptEntryError, match="contradict"):
        await ledger.lease(second, "worker-1", agents=[AGENT])


async def test_indexes_may_name_runs_that_there_are_not(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """A lease or a ready run without a record is forgotten; the real ones beside it are found."""
    ledger, tag = backend.ledger, keys.tag(7)
    lost = [new_run_id(7) for _ in range(20)]
    strange = ["garbage", "run-7-x", b"\xff\xfe", "", "{}", "*"]
    real = (await take(ledger, (await ledger.submit(new_run())).run.id, "dead")).run.id
    overdue = (await ledger.submit(new_run())).run.id
    for name in (*lost, *strange):
        await redis.zadd(f"{tag}:leases:dead", {name: 1})
        await redis.zadd(f"{tag}:leases:worker-1", {name: 1})
        await redis.zadd(f"{tag}:ready:{AGENT}", {name: 1})
        await redis.zadd(f"{tag}:suspects:{AGENT}", {name: 1})
        await redis.zadd(f"{tag}:status:running", {name: 1})
        await redis.sadd(f"{tag}:cancelling", name)
    await redis.sadd(f"{tag}:holders", "dead", b"\xff\xfe")
    await redis.zadd(f"{tag}:leases:dead", {real: 1})
    await redis.zadd(f"{tag}:ready:{AGENT}", {overdue: 2})
    await redis.zrem(keys.workers, "dead")
    await ledger.beat(worker())

    async def settled() -> bool:
        await redis.zadd(f"{tag}:leases:dead", {real: 1}, xx=True)
        sweep = await ledger.sweep("worker-1", agents=[AGENT], limit=2)
        return overdue in sweep.overdue and not sweep.leased

    await eventually(settled)
    assert (await ledger.get(real)).crashes == 1
    assert not [key async for key in redis.scan_iter(f"{tag}:run:*") if b"garbage" in key]
    assert {run.id for run in await ledger.list_runs()} == {real, overdue}


@both
async def test_a_lease_whose_record_breaks_the_sweep_does_not_hold_others_back(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """Of two runs of a dead worker, the one whose counter is no number fails; the other goes on."""
    ledger = backend.ledger
    broken = (await take(ledger, (await ledger.submit(new_run())).run.id, "dead")).run.id
    sound = (await take(ledger, (await ledger.submit(new_run())).run.id, "dead")).run.id
    await redis.hset(keys.run(broken), "crashes", "many")
    await redis.zadd(f"{keys.tag(7)}:leases:dead", {broken: 1, sound: 2})
    await ledger.retire("dead")
    await ledger.beat(worker())
    await ledger.sweep("worker-1", agents=[AGENT], limit=10)
    assert (await ledger.get(sound)).status is RunStatus.QUEUED
    assert await redis.hget(keys.run(broken), "status") == b"failed"
    assert not await redis.exists(f"{keys.tag(7)}:leases:dead")


async def test_keys_of_a_wrong_type_are_a_named_error(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """Under each key of one conversation and its run; other conversations are served."""
    name = conversation_name()
    run_id = (await backend.ledger.submit(new_run(name))).run.id
    await backend.conversations.append(name, [imported("a")])
    tag = keys.tag_of_history(name)
    await backend.ledger.beat(worker())
    for key in (
        keys.run(run_id),
        keys.events(run_id),
        keys.conversation(name),
        keys.runs(name),
        keys.messages(name),
        keys.history(name),
        f"{tag}:waiting:{name}",
        f"{tag}:interrupting:{name}",
        keys.status(tag, RunStatus.QUEUED),
        keys.status(tag, RunStatus.FAILED),
        keys.conversations(tag),
        f"{tag}:ready:{AGENT}",
        f"{tag}:suspects:{AGENT}",
        f"{tag}:leases:worker-1",
        f"{tag}:holders",
        f"{tag}:cancelling",
        keys.worker("worker-1"),
    ):
        await _is_survived(redis, backend, name, run_id, key)


async def _is_survived(redis: Any, backend: Backend, name: str, run_id: str, key: str) -> None:
    """Put a string where something else belongs, or a list for a string; then use everything."""
    ledger, store = backend.ledger, backend.conversations
    saved = await redis.dump(key)
    await redis.delete(key)
    await (redis.rpush(key, "x") if ":worker:" in key else redis.set(key, "x"))
    writer = Writer(run_id, next(_tokens))
    calls: list[Any] = [
        ledger.get(run_id),
        ledger.lease(run_id, "worker-1", agents=[AGENT]),
        ledger.submit(new_run(name)),
        ledger.submit(new_run(name, on_busy="interrupt")),
        ledger.list_events(run_id),
        store.list_messages(name),
        store.list_messages(name, run_id=run_id),
        store.claim(name, writer, limit=5),
        store.append(name, [message(run_id, 0)], writer=writer),
        store.append(name, [imported("b")]),
        store.retract(name, writer),
        store.clear(name),
        ledger.cancel(run_id),
        ledger.withdraw(run_id),
    ]
    for call in calls:
        with suppress(CorruptEntryError, UnknownRunError):
            await call
    await ledger.list_runs()
    await ledger.list_conversations()
    await ledger.list_workers()
    elsewhere = next(f"room-{n}" for n in range(99) if not key.startswith(_tag(key, f"room-{n}")))
    other = (await ledger.submit(new_run(elsewhere))).run.id
    await ledger.sweep("worker-1", agents=[AGENT], limit=100)
    await ledger.finish(await take(ledger, other), COMPLETED)
    await redis.delete(key)
    if saved is not None:
        await redis.restore(key, 0, saved)


def _tag(key: str, name: str) -> str:
    return Keys(key.partition("}")[0].strip("{").rpartition(":")[0]).tag_of_history(name)


async def test_an_announcement_that_is_none_hides_one_worker(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """The other workers are listed."""
    ledger = backend.ledger
    await ledger.beat(worker("sound"))
    for value in GARBAGE:
        await ledger.beat(worker("broken"))
        await redis.set(keys.worker("broken"), value)
        assert [one.id for one in await ledger.list_workers()] == ["sound"]


async def test_an_event_that_is_none_is_passed_over(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """Those around it are read, and a page is full all the same."""
    ledger = backend.ledger
    run_id = (await ledger.submit(new_run())).run.id
    for value in SOME_GARBAGE:
        await redis.xadd(keys.events(run_id), {"type": value, "text": value})
        await redis.xadd(keys.events(run_id), {"type": "delta", "text": value})
        await redis.xadd(keys.events(run_id), {value: value})
    await take(ledger, run_id)
    events = await ledger.list_events(run_id)
    assert [getattr(event, "status", None) for event in events] == ["queued", "running"]
    assert await ledger.list_events(run_id, limit=2) == events


async def test_messages_that_are_none_are_passed_over(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """Each field of an entry may hold anything."""
    store, name, run_id = backend.conversations, conversation_name(), new_run_id(7)
    await store.append(name, [message(run_id, 0, "a")], writer=Writer(run_id, 1))
    [entry] = await redis.xrange(keys.messages(name))
    fields: dict[bytes, bytes] = entry[1]
    for field in fields:
        for value in (None, *SOME_GARBAGE):
            changed: Any = {key: kept for key, kept in fields.items() if key != field}
            await redis.xadd(
                keys.messages(name), changed if value is None else fields | {field: value}
            )
    await store.append(name, [imported("b")])
    read = texts(await store.list_messages(name))
    assert (read[0], read[-1]) == ("a", "b")
    of_other_kinds = ["a"] * (1 + len(SOME_GARBAGE))
    assert read[1:-1] == of_other_kinds, "only the field `kind` may be anything"
    claim = await store.claim(name, Writer(run_id, 2), limit=10)
    assert claim.unreadable > 0
    following = message(run_id, claim.next_position, "c")
    await store.append(name, [following], writer=Writer(run_id, 2))
    assert texts(await store.list_messages(name))[-1] == "c"


@pytest.mark.parametrize("harness", [SEALED], indirect=True, ids=["sealed"])
async def test_sealed_messages_that_were_exchanged_are_not_passed_over(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """Each is whole and not where its fields say: that is nobody's accident."""
    store, name, run_id = backend.conversations, conversation_name(), new_run_id(7)
    await store.append(name, messages(run_id, range(2)), writer=Writer(run_id, 1))
    first, second = await redis.xrange(keys.messages(name))
    await redis.delete(keys.messages(name))
    for (cursor, fields), (_, other) in ((first, second), (second, first)):
        await redis.xadd(keys.messages(name), fields | {b"data": other[b"data"]}, id=cursor)
    for read in (
        store.list_messages(name),
        store.list_messages(name, limit=1),
        store.claim(name, Writer(run_id, 2), limit=5),
    ):
        with pytest.raises(TamperedError, match="somebody else wrote"):
            await read
    assert await store.count(name) == 2


async def test_a_run_goes_on_behind_an_entry_without_a_position(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """It counts as unreadable and takes no place."""
    store = backend.conversations
    for value in (None, *SOME_GARBAGE):
        name, run_id = conversation_name(), new_run_id(7)
        await store.append(name, [message(run_id, 0, "a")], writer=Writer(run_id, 1))
        [entry] = await redis.xrange(keys.messages(name))
        fields = {key: kept for key, kept in entry[1].items() if key != b"pos"}
        await redis.xadd(keys.messages(name), fields if value is None else fields | {"pos": value})
        claim = await store.claim(name, Writer(run_id, 2), limit=10)
        assert (claim.next_position, claim.unreadable) == (1, 1)
        await store.append(name, [message(run_id, 1, "b")], writer=Writer(run_id, 2))
        assert texts(await store.list_messages(name)) == ["a", "b"]


async def test_a_submit_answers_what_it_found_damaged(
    redis: Any, keys: Keys, backend: Backend
) -> None:
    """An idempotency key may name anything: a run that is none is as if there were no key."""
    ledger = backend.ledger
    for value in (b"\xff\xfe", b"garbage", b""):
        new = new_run("room", idempotency_key="k")
        await redis.set(keys.idempotency(keys.tag_of_run(new.id), "room", "k"), value)
        submission = await ledger.submit(new)
        assert submission.is_new
        await ledger.withdraw(new.id)
