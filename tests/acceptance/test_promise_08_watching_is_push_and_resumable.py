"""Promise 8: watching is pushed, resumes without a gap, and costs no connection a watcher."""

import asyncio
import time
from functools import partial
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster
from redis import Redis

from agent_client import AsyncAgentClient, Message
from agent_client.watching import RECHECK_S
from shared.settings import Settings
from tests.acceptance.conftest import play
from tests.traces import executions, permit
from tests.waiting import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

WATCHERS = 1000


async def test_a_message_is_pushed(client: AsyncAgentClient, traces: Path) -> None:
    """A result arrives long before a watcher that heard no hint would look again by itself."""
    run = await client.submit("script", play(*([("wait", f"gate-{i}")] for i in range(10))))
    delays: list[float] = []
    permitted = 0.0
    async for message in run.watch():
        if message.tool_calls:
            gate = f"gate-{len(delays)}"
            await eventually(partial(_started, traces, gate), timeout_s=20)
            permit(traces, gate)
            permitted = time.monotonic()
        elif message.role == "tool":
            delays.append(time.monotonic() - permitted)
    assert len(delays) == 10
    assert max(delays) < RECHECK_S / 3, f"nothing was pushed: {delays}"


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
    permit(traces, "gate")
    seen = await asyncio.gather(*watchers)
    assert {tuple(ids) for ids in seen} == {tuple(f"{run.id}.{i}" for i in range(4))}
    assert len(listening) == 3, "one of this process, and one of each of the two workers"


async def _started(traces: Path, name: str) -> bool:
    return any(entry["name"] == name for entry in executions(traces))
