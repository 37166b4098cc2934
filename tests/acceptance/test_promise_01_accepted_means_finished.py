"""Promise 1: once `submit` returns, the run reaches exactly one final status."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryWorkerCluster
from redis import Redis

from agent_client import AsyncAgentClient, RunStatus
from shared.settings import Settings
from tests.acceptance.conftest import play
from tests.traces import executions, permit
from tests.waiting import eventually

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
    """A restart of the store in the middle of runs is survived by workers, runs and watchers."""
    runs = [await client.submit("script", play([("wait", "gate")])) for _ in range(5)]

    async def all_started() -> bool:
        return len(executions(traces)) == len(runs)

    await eventually(all_started, timeout_s=RESULT_S)
    waiting = [asyncio.create_task(run.result(timeout_s=RESULT_S)) for run in runs]
    await asyncio.to_thread(celery_backend_cluster[0].container.restart)
    permit(traces, "gate")
    outcomes = await asyncio.gather(*waiting)
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}


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
