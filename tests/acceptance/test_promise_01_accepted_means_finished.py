"""Promise 1: once `submit` returns, the run reaches exactly one final status."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryWorkerCluster
from redis import Redis

from agent_client import AsyncAgentClient, AsyncRun, CancelResult, RunStatus, StatusEvent
from agent_worker.testing import WorkerProcess
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play, started, worker_at
from tests.faulty import FaultySystem
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0


async def test_runs_finish_though_their_worker_is_killed(
    client: AsyncAgentClient, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """Runs that were in the hands of a killed worker are completed by another one."""
    runs = [await client.submit("script", play([("wait", "gate")])) for _ in range(12)]

    async def all_started() -> bool:
        return len({entry["key"] for entry in executions(traces)}) == len(runs)

    await eventually(all_started, timeout_s=RESULT_S)
    victim = celery_worker_cluster[0]
    had = {
        each["key"] for each in executions(traces) if each["pid"] == victim.container.process.pid
    }
    assert had, "the victim must have had runs, or its death would prove nothing"
    victim.kill()
    permit(traces, "gate")
    outcomes = await asyncio.gather(*(run.result(timeout_s=RESULT_S) for run in runs))
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
    again = {each["key"] for each in executions(traces) if each["attempt"] > 1}
    assert again == had, "exactly what the victim had in flight runs again"


async def test_a_run_whose_ring_is_lost_finishes(
    agents_settings: Settings,
    client: AsyncAgentClient,
    celery_broker_cluster: CeleryBrokerCluster,
    celery_worker_cluster: CeleryWorkerCluster,
) -> None:
    """A broker that drops every message costs seconds, not runs."""
    for worker in celery_worker_cluster:
        worker.kill(signal.SIGSTOP)
    runs = [await client.submit("script", play([("note", "a")])) for _ in range(5)]
    with Redis.from_url(celery_broker_cluster[0].config()["host_url"]) as broker:
        broker.flushall()
    for worker in celery_worker_cluster:
        worker.kill(signal.SIGCONT)
    outcomes = await asyncio.gather(*(run.result(timeout_s=RESULT_S) for run in runs))
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}


async def test_runs_finish_though_redis_restarts(
    client: AsyncAgentClient,
    celery_backend_cluster: CeleryBackendCluster,
    traces: Path,
) -> None:
    """Results that come while the store is down are stored once it is back, and told."""
    runs = [await client.submit("script", play([("wait", "gate")])) for _ in range(5)]

    async def all_started() -> bool:
        return len(executions(traces)) == len(runs)

    await eventually(all_started, timeout_s=RESULT_S)
    waiting = [asyncio.create_task(run.result(timeout_s=RESULT_S)) for run in runs]
    store = celery_backend_cluster[0]
    store.kill()
    permit(traces, "gate")

    async def all_ended() -> bool:
        return len(executions(traces)) == 2 * len(runs)

    await eventually(all_ended)
    await asyncio.to_thread(store.container.restart)
    outcomes = await asyncio.gather(*waiting)
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
    assert started(traces) == ["gate"] * len(runs), "no result was thrown away"


async def test_runs_wait_for_a_worker_that_comes_back(
    client: AsyncAgentClient, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """With every worker killed, what is running and what is submitted waits for the next one."""
    running = await client.submit("script", play([("wait", "gate")]))
    first = await worker_at("gate", celery_worker_cluster, traces)
    for worker in celery_worker_cluster:
        worker.kill()
    queued = await client.submit("script", play([("note", "a")]))
    permit(traces, "gate")
    await asyncio.to_thread(first.container.restart)
    outcomes = [await run.result(timeout_s=RESULT_S) for run in (running, queued)]
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}


async def test_a_run_that_takes_its_workers_down_fails_alone(
    faulty_client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """Not tried for ever: it fails and says why, its conversation goes on. Who was there survives.

    Each death hits all runs of the worker. So that the others are not failed with the deadly one,
    those that died twice without having stored anything are tried one at a time.
    """
    survivor, *others = faulty.workers
    for other in others:
        other.terminate()
    bystanders = [await faulty_client.submit("bystander", "hello") for _ in range(4)]
    for run in bystanders:
        await eventually(partial(has_status, run, RunStatus.RUNNING), timeout_s=RESULT_S)
    deadly = await faulty_client.submit("deadly", play(), conversation_id="deadly")
    async with restarted(survivor):
        outcome = await deadly.result(timeout_s=2 * RESULT_S)
        ends = [await run.result(timeout_s=RESULT_S) for run in bystanders]
        after = await faulty_client.submit("script", play(), conversation_id="deadly")
        assert (await after.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert outcome.status is RunStatus.FAILED
    assert outcome.error is not None
    assert outcome.error.code == "worker_lost"
    assert "3 workers" in outcome.error.message
    assert {end.output for end in ends} == {"survived"}
    assert (await deadly.get()).attempts == faulty.settings.max_crashes + 1
    history = await deadly.history()
    assert [(message.role, message.kind) for message in history] == [
        ("user", "message"),
        ("system", "error"),
    ]


async def test_a_cancelled_run_whose_worker_dies_is_cancelled(
    client: AsyncAgentClient, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """The wish to stop outlives the worker that it was told to: the next one follows it."""
    run = await client.submit("script", play([("wait", "gate")]))
    victim = await worker_at("gate", celery_worker_cluster, traces)
    victim.kill(signal.SIGSTOP)
    assert await run.cancel() is CancelResult.REQUESTED
    victim.kill()
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    assert started(traces) == ["gate"], "the tool is not started again in order to be stopped"


async def test_a_run_ends_in_exactly_one_status(
    client: AsyncAgentClient, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """Completed, failed or cancelled: told once, and nothing that comes later changes it."""
    completed = await client.submit("script", play([("note", "a")]))
    failed = await client.submit("script", play([("note", "b")], [("note", "c")]), max_rounds=1)
    cancelled = await client.submit("script", play([("wait", "gate")]))
    await worker_at("gate", celery_worker_cluster, traces)
    await cancelled.cancel()
    for run, status in (
        (completed, RunStatus.COMPLETED),
        (failed, RunStatus.FAILED),
        (cancelled, RunStatus.CANCELLED),
    ):
        assert (await run.result(timeout_s=RESULT_S)).status is status
        assert await run.cancel() is CancelResult.ALREADY_ENDED
        told = [event.status async for event in run.events() if isinstance(event, StatusEvent)]
        assert [each for each in told if each.is_final] == [status]
        assert await run.status() is status


async def has_status(run: AsyncRun, status: RunStatus) -> bool:
    return await run.status() is status


@asynccontextmanager
async def restarted(worker: WorkerProcess) -> AsyncIterator[None]:
    """Start the worker again whenever it has died, as a supervisor does."""

    async def supervise() -> None:
        while True:
            if not worker.is_running:
                worker.start()
            await asyncio.sleep(0.05)

    supervising = asyncio.create_task(supervise())
    try:
        yield
    finally:
        supervising.cancel()


async def test_one_idempotency_key_gives_one_run(client: AsyncAgentClient, traces: Path) -> None:
    """Fifty submits at once under one key are one run, executed once."""
    handles = await asyncio.gather(
        *(
            client.submit("script", play([("note", "once")]), idempotency_key="order-17")
            for _ in range(50)
        )
    )
    assert len({handle.id for handle in handles}) == 1
    outcome = await handles[0].result(timeout_s=RESULT_S)
    assert outcome.status is RunStatus.COMPLETED
    assert Counter(entry["event"] for entry in executions(traces)) == {"start": 1, "end": 1}
