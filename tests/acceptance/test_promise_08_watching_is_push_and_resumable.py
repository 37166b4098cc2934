"""Promise 8: watching is pushed, resumes without a gap, and costs no connection a watcher."""

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster
from redis import Redis

from agent_client import AsyncAgentClient, AsyncRun, Message, RunStatus
from agent_client.watching import RECHECK_S
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

WATCHERS = 1000
PUSHED_S = RECHECK_S / 3


async def test_messages_and_the_end_are_pushed(client: AsyncAgentClient, traces: Path) -> None:
    """They arrive long before a watcher that heard no hint would look again by itself."""
    run = await client.submit("script", play(*([("wait", f"gate-{i}")] for i in range(10))))
    waiting = asyncio.create_task(run.result())
    results = 0
    last = 0.0
    async for message in run.watch():
        if message.tool_calls:
            gate = f"gate-{results}"
            await eventually(partial(_started, traces, gate), timeout_s=20)
            permit(traces, gate)
        elif message.role == "tool":
            assert time.monotonic() - last < PUSHED_S, "the result was not pushed"
            results += 1
        last = time.monotonic()
    assert results == 10
    assert time.monotonic() - last < PUSHED_S, "the end was not pushed to the watcher"
    async with asyncio.timeout(PUSHED_S):
        await waiting


async def test_watchers_that_wait_ask_for_nothing(
    client: AsyncAgentClient, agents_settings: Settings, traces: Path
) -> None:
    """While a run tells nothing, its fifty watchers read neither the run nor its messages."""
    run = await client.submit("script", play([("wait", "gate")]))
    watching = [asyncio.create_task(_watch(run)) for _ in range(50)]
    ending = [asyncio.create_task(run.result()) for _ in range(50)]
    with Redis.from_url(agents_settings.redis_url.get_secret_value()) as redis:

        async def beats(least: int) -> bool:
            return _calls(redis, "zadd") >= least

        async def all_have_read() -> bool:
            return _calls(redis, "xrange") >= first + len(watching)

        first = _calls(redis, "xrange")
        await eventually(all_have_read)
        await eventually(partial(_started, traces, "gate"))
        await eventually(partial(beats, _calls(redis, "zadd") + 4))
        before = _calls(redis, "xrange"), _calls(redis, "hgetall")
        await eventually(partial(beats, _calls(redis, "zadd") + 6))
        assert (_calls(redis, "xrange"), _calls(redis, "hgetall")) == before, "they polled"
    permit(traces, "gate")
    assert {len(seen) for seen in await asyncio.gather(*watching)} == {4}
    await asyncio.gather(*ending)


async def test_a_watcher_resumes_behind_any_cursor(client: AsyncAgentClient) -> None:
    """Whichever message was the last one seen, a new watcher gets exactly the rest."""
    run = await client.submit("script", play([("note", "a"), ("note", "b")], [("note", "c")]))
    whole = [message async for message in run.watch()]
    assert len(whole) == 7
    for seen, message in enumerate(whole, start=1):
        rest = [each async for each in client.run(run.id).watch(after=message.cursor)]
        assert [each.id for each in rest] == [each.id for each in whole[seen:]]


async def test_events_resume_behind_any_cursor(client: AsyncAgentClient) -> None:
    """So it is for everything that happens in a run, status changes included."""
    run = await client.submit("script", play([("note", "a"), ("note", "b")], [("note", "c")]))
    whole = [event async for event in run.events()]
    assert len(whole) > 7
    for seen, event in enumerate(whole, start=1):
        rest = [each async for each in client.run(run.id).events(after=event.cursor)]
        assert rest == whole[seen:]


async def test_a_watcher_survives_a_restart_of_redis(
    client: AsyncAgentClient, celery_backend_cluster: CeleryBackendCluster, traces: Path
) -> None:
    """Who watches while Redis goes down, or begins to while it is, misses and repeats nothing."""
    run = await client.submit("script", play([("wait", "one")], [("wait", "two")]))
    seen: list[Message] = []
    early = asyncio.create_task(_watch(run, seen))

    async def saw_the_call() -> bool:
        return len(seen) == 2

    await eventually(saw_the_call, timeout_s=20)
    store = celery_backend_cluster[0]
    store.kill()
    late = asyncio.create_task(_watch(run))
    await asyncio.to_thread(store.container.restart)
    permit(traces, "one")
    permit(traces, "two")
    async with asyncio.timeout(2 * PUSHED_S):
        for watching in (early, late):
            assert [message.position for message in await watching] == list(range(6))


async def test_what_came_while_nobody_could_listen_is_told_on_reconnect(
    client: AsyncAgentClient, agents_settings: Settings, traces: Path
) -> None:
    """When the listening connection comes back, watchers look for what they did not hear of."""
    run = await client.submit(
        "script", play([("wait", "one")], [("wait", "two")]), conversation_id="deaf"
    )
    seen: list[Message] = []
    watching = asyncio.create_task(_watch(run, seen))

    async def saw(count: int) -> bool:
        return len(seen) == count

    async def is_stored() -> bool:
        return len(await client.history("deaf")) == 4

    await eventually(partial(saw, 2), timeout_s=20)
    with Redis.from_url(agents_settings.redis_url.get_secret_value()) as redis:
        redis.execute_command("ACL SETUSER", "default", "-subscribe")
        try:
            redis.client_kill_filter(_type="pubsub")
            permit(traces, "one")
            await eventually(is_stored)
        finally:
            redis.execute_command("ACL SETUSER", "default", "+subscribe")
    await eventually(partial(saw, 4), timeout_s=PUSHED_S)
    permit(traces, "two")
    assert [message.position for message in await watching] == list(range(6))


async def test_a_thousand_watchers_share_one_listening_connection(
    client: AsyncAgentClient, agents_settings: Settings, traces: Path
) -> None:
    """All of a process's watchers see everything over one connection that listens."""
    run = await client.submit("script", play([("wait", "gate")]), conversation_id="watched-crowd")
    started = 0

    async def watch() -> list[str]:
        nonlocal started
        ids: list[str] = []
        async for message in run.watch():
            started += not ids
            ids.append(message.id)
        return ids

    watchers = [asyncio.create_task(watch()) for _ in range(WATCHERS)]

    async def all_watch() -> bool:
        return started == WATCHERS

    await eventually(all_watch, timeout_s=60)
    with Redis.from_url(agents_settings.redis_url.get_secret_value()) as redis:
        listening = redis.client_list(_type="pubsub")
        connections = redis.client_list()
    permit(traces, "gate")
    seen = await asyncio.gather(*watchers)
    outcome = await run.result()
    assert outcome.status is RunStatus.COMPLETED, outcome.error
    assert {tuple(ids) for ids in seen} == {tuple(f"{run.id}.{i}" for i in range(4))}
    assert len(listening) == 3, "one of this process, and one of each of the two workers"
    assert len(connections) < WATCHERS / 5, "their reads share a few connections, too"


async def _watch(run: AsyncRun, seen: list[Message] | None = None) -> list[Message]:
    """All messages of a run. They go into `seen` one by one, for who looks at it meanwhile."""
    seen = [] if seen is None else seen
    async for message in run.watch():
        seen.append(message)
    return seen


def _calls(redis: Redis, command: str) -> int:
    """How often a command was called, by whomever, since the server started."""
    counts = redis.info("commandstats").get(f"cmdstat_{command}", {})
    return int(counts.get("calls", 0))


async def _started(traces: Path, name: str) -> bool:
    return any(entry["name"] == name for entry in executions(traces))
