"""Promise 8: watching is pushed, resumes without a gap, and costs no connection a watcher."""

import asyncio
import time
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster
from redis import Redis

from agent_client import AsyncAgentClient, Message
from shared.settings import Settings
from tests.acceptance.conftest import play
from tests.traces import executions, permit
from tests.waiting import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

WATCHERS = 1000


async def test_a_message_is_pushed(client: AsyncAgentClient, traces: Path) -> None:
    """A result arrives far sooner than any polling interval after its tool ended."""
    run = await client.submit("script", play(*([("wait", f"gate-{i}")] for i in range(10))))
    delays = []
    async for message in run.watch():
        if message.tool_calls:
            number = sum(1 for each in delays)
            await eventually(lambda n=number: _started(traces, n), timeout_s=20)  # type: ignore[misc]
            permit(traces, f"gate-{number}")
            permitted = time.monotonic()
        elif message.role == "tool":
            delays.append(time.monotonic() - permitted)
    assert len(delays) == 10
    assert sorted(delays)[5] < 0.5, f"the median delay tells of polling: {delays}"


async def test_a_watcher_resumes_behind_any_cursor(client: AsyncAgentClient) -> None:
    """Whichever message was the last one seen, a new watcher gets exactly the rest."""
    run = await client.submit("script", play([("note", "a"), ("note", "b")], [("note", "c")]))
    whole = [message async for message in run.watch()]
    assert len(whole) == 7
    for seen, message in enumerate(whole, start=1):
        rest = [each async for each in client.run(run.id).watch(after=message.cursor)]
        assert [each.id for each in rest] == [each.id for each in whole[seen:]]


async def test_a_watcher_survives_a_restart_of_redis(
    client: AsyncAgentClient, celery_backend_cluster: CeleryBackendCluster, traces: Path
) -> None:
    """A watcher that is watching while Redis restarts misses nothing and sees nothing twice."""
    run = await client.submit("script", play([("wait", "one")], [("wait", "two")]))
    seen: list[Message] = []

    async def watch() -> None:
        async for message in run.watch():
            seen.append(message)  # noqa: PERF401  what was seen so far is looked at meanwhile

    watching = asyncio.create_task(watch())

    async def saw_the_call() -> bool:
        return len(seen) == 2

    await eventually(saw_the_call, timeout_s=20)
    await asyncio.to_thread(celery_backend_cluster[0].container.restart)
    permit(traces, "one")
    permit(traces, "two")
    async with asyncio.timeout(40):
        await watching
    assert [message.position for message in seen] == list(range(6))


async def test_a_thousand_watchers_share_one_listening_connection(
    client: AsyncAgentClient, agents_settings: Settings, traces: Path
) -> None:
    """All of a process's watchers see everything over one connection that listens."""
    run = await client.submit("script", play([("wait", "gate")]), conversation_id="crowd")
    started = 0

    async def watch() -> list[str]:
        nonlocal started
        ids = []
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
    permit(traces, "gate")
    seen = await asyncio.gather(*watchers)
    assert {tuple(ids) for ids in seen} == {tuple(f"{run.id}.{i}" for i in range(4))}
    assert len(listening) == 3, "one of this process, and one of each of the two workers"


async def _started(traces: Path, number: int) -> bool:
    return any(entry["name"] == f"gate-{number}" for entry in executions(traces))
