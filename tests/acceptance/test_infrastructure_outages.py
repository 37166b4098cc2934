"""Store and broker away: everybody waits, comes back by himself, and repeats nothing."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryWorkerCluster
from redis import Redis

from agent_client import (
    AsyncAgentClient,
    AsyncRun,
    BrokerUnavailableError,
    RunStatus,
    StoreUnavailableError,
    UnknownRunError,
)
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play, started
from tests.celery_nodes.local import BackendNode, BrokerNode
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 60.0
HASTE = {"broker_timeout_s": 0.5}
"""Sooner than a sweep takes a run up that it was not rung for."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "missed_beats"),
    # The first two take longer than a lease of 4 s, the last half a minute: beats are a second
    # apart, and one that hears nothing is given up after a third of a lease.
    [("frozen", 3), ("refusing", 5), ("refusing", 30)],
)
async def test_an_outage_longer_than_a_lease_repeats_nothing(
    kind: str,
    missed_beats: int,
    agents_settings: Settings,
    client: AsyncAgentClient,
    celery_backend_cluster: CeleryBackendCluster,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """Tools that end meanwhile are stored afterwards; watchers and waiting callers go on."""
    script = play([("wait", "gate")], [("note", "after")])
    runs = [await client.submit("script", script) for _ in range(10)]
    watching = [asyncio.create_task(_positions(run)) for run in runs]
    waiting = [asyncio.create_task(run.result(timeout_s=RESULT_S)) for run in runs]
    await eventually(_are_started(traces, len(runs)), timeout_s=RESULT_S)
    async with _away(celery_backend_cluster[0], kind):
        permit(traces, "gate")
        await _beats_missed(celery_worker_cluster, missed_beats)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await client.submit("script", play([("note", "too early")]))
        assert time.monotonic() - begun < 3 * agents_settings.redis_timeout_s
    outcomes = await asyncio.gather(*waiting)
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
    assert await asyncio.gather(*watching) == [list(range(6))] * len(runs)
    executed = [name for name in started(traces) if name != "too early"]
    assert executed == sorted(["after", "gate"] * len(runs)), "what had ended ran again"
    assert {(await run.get()).crashes for run in runs} == {0}


@pytest.mark.parametrize("kind", ["frozen", "refusing"])
async def test_a_submit_without_a_broker_is_refused_and_leaves_nothing(
    kind: str,
    agents_settings: Settings,
    celery_broker_cluster: CeleryBrokerCluster,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """In bounded time, also over connections of before. What runs goes on; then rings are heard."""
    settings = agents_settings.model_copy(update=HASTE)
    async with AsyncAgentClient(settings) as client:
        script = play([("wait", "gate")])
        runs = await asyncio.gather(*(client.submit("script", script) for _ in range(10)))
        await eventually(_are_started(traces, len(runs)), timeout_s=RESULT_S)
        async with _away(celery_broker_cluster[0], kind):
            for _ in range(2):
                begun = time.monotonic()
                with pytest.raises(BrokerUnavailableError):
                    await client.submit("script", script, conversation_id=f"refused-{kind}")
                assert time.monotonic() - begun < 5 * settings.broker_timeout_s
            assert await client.runs(conversation_id=f"refused-{kind}") == []
            permit(traces, "gate")
            assert await _statuses(runs) == {RunStatus.COMPLETED}
        later = await client.submit("script", play([("note", "later")]))
        assert await _statuses([later]) == {RunStatus.COMPLETED}
        assert started(traces) == sorted(["gate"] * len(runs) + ["later"])


async def test_rings_of_runs_that_were_refused_wake_nobody(
    agents_settings: Settings,
    celery_broker_cluster: CeleryBrokerCluster,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """A frozen broker may take a ring after all, when its caller has been told that it did not."""
    async with AsyncAgentClient(agents_settings.model_copy(update=HASTE)) as client:
        async with _away(celery_broker_cluster[0], "frozen"):
            with pytest.raises(BrokerUnavailableError):
                await client.submit("script", play([("note", "refused")]))
        later = await client.submit("script", play([("note", "later")]))
        assert await _statuses([later]) == {RunStatus.COMPLETED}
        assert started(traces) == ["later"]


async def test_a_run_that_a_sweep_takes_while_the_broker_hangs_is_accepted(
    agents_settings: Settings,
    celery_broker_cluster: CeleryBrokerCluster,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """Whatever the broker says, the caller gets the handle of a run that is being executed."""
    async with AsyncAgentClient(agents_settings) as client:
        async with _away(celery_broker_cluster[0], "frozen"):
            run = await client.submit("script", play([("note", "swept")]))
            assert await _statuses([run]) == {RunStatus.COMPLETED}
        assert started(traces) == ["swept"]


async def test_with_one_idempotency_key_a_submit_is_repeated_until_it_is_accepted(
    agents_settings: Settings,
    celery_backend_cluster: CeleryBackendCluster,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """A frozen store may take a submit after all; the same key then finds it."""
    settings = agents_settings.model_copy(update={"redis_timeout_s": 1.0})
    async with AsyncAgentClient(settings) as client:
        submit = partial(
            client.submit,
            "script",
            play([("note", "once")]),
            conversation_id="ordered",
            idempotency_key="order-18",
        )
        # It asks who serves the agent, and remembers it for long enough that the next one is sent.
        await client.submit("script", play())
        async with _away(celery_backend_cluster[0], "frozen"):
            for _ in range(3):
                with pytest.raises(StoreUnavailableError):
                    await submit()
        run = await submit()
        assert await _statuses([run]) == {RunStatus.COMPLETED}
        assert [each.id for each in await client.runs(conversation_id="ordered")] == [run.id]
        assert started(traces) == ["once"]


async def test_a_store_that_comes_back_empty_is_told(
    client: AsyncAgentClient,
    agents_settings: Settings,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """Workers drop what is gone and serve on; who waits for it hears that there is no such run."""
    run = await client.submit("script", play([("wait", "gate")]))
    await eventually(_are_started(traces, 1), timeout_s=RESULT_S)
    watching = asyncio.create_task(_positions(run))
    waiting = asyncio.create_task(run.result())
    with Redis.from_url(agents_settings.redis_url.get_secret_value()) as redis:
        redis.flushall()
        redis.client_kill_filter(_type="normal")
        redis.client_kill_filter(_type="pubsub")
    for caller in (watching, waiting):
        with pytest.raises(UnknownRunError):
            await asyncio.wait_for(caller, RESULT_S)

    async def is_dropped() -> bool:
        lines = "".join(worker.logs() for worker in celery_worker_cluster).splitlines()
        return any("run.lost" in line and run.id in line for line in lines)

    await eventually(is_dropped, timeout_s=RESULT_S)
    later = await client.submit("script", play([("note", "later")]))
    assert await _statuses([later]) == {RunStatus.COMPLETED}
    assert all(worker.container.status == "running" for worker in celery_worker_cluster)


async def _statuses(runs: Sequence[AsyncRun]) -> set[RunStatus]:
    outcomes = await asyncio.gather(*(run.result(timeout_s=RESULT_S) for run in runs))
    return {outcome.status for outcome in outcomes}


async def _positions(run: AsyncRun) -> list[int]:
    return [message.position async for message in run.watch()]


def _are_started(traces: Path, count: int) -> Callable[[], Awaitable[bool]]:
    async def are_started() -> bool:
        return len(executions(traces)) >= count

    return are_started


@asynccontextmanager
async def _away(node: BackendNode | BrokerNode, kind: str) -> AsyncIterator[None]:
    """For as long as the context lasts, the server holds its connections or has none."""
    node.kill(signal.SIGSTOP if kind == "frozen" else signal.SIGKILL)
    try:
        yield
    finally:
        if kind == "frozen":
            node.kill(signal.SIGCONT)
        else:
            await asyncio.to_thread(node.container.restart)


async def _beats_missed(workers: CeleryWorkerCluster, times: int) -> None:
    before = [worker.logs().count("heartbeat.failed") for worker in workers]

    async def are_missed() -> bool:
        now = [worker.logs().count("heartbeat.failed") for worker in workers]
        return all(count >= was + times for count, was in zip(now, before, strict=True))

    await eventually(are_missed, timeout_s=RESULT_S)
