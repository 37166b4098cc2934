"""Promise 2: history is append-only; nothing drops or repeats a message."""

import asyncio
import signal
from pathlib import Path

import pytest
from pytest_celery import CeleryBackendCluster, CeleryWorkerCluster

from agent_client import AsyncAgentClient, Message, RunStatus
from shared.celery_app import WAKE_TASK, create_celery_app
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play, started, worker_at
from tests.celery_nodes.local import WorkerNode, wait_until
from tests.traces import permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0
SCRIPT = play([("note", "a"), ("wait", "gate")], [("note", "b")])


def check_whole(messages: list[Message]) -> None:
    """Assert that a history of one run of SCRIPT is complete, in order, and without repetition."""
    assert [message.position for message in messages] == list(range(len(messages)))
    assert len({message.id for message in messages}) == len(messages)
    texts = [message.text for message in messages if message.role == "tool"]
    assert texts == ["noted a", "waited for gate", "noted b"]
    assert messages[-1].text == "done"
    assert len(messages) == 7


async def test_a_killed_worker_leaves_no_gap_and_no_duplicate(
    client: AsyncAgentClient, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """Killed with one of two parallel tools done, the run goes on with the other one only."""
    run = await client.submit("script", SCRIPT, conversation_id="killed")
    victim = await worker_at("gate", celery_worker_cluster, traces)
    await eventually(lambda: _stored(client, "killed", 3))
    victim.kill()
    permit(traces, "gate")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    check_whole(await client.history("killed"))
    assert started(traces) == ["a", "b", "gate", "gate"], "what was finished is not run again"


async def test_a_frozen_worker_that_comes_back_cannot_write(
    client: AsyncAgentClient, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """A zombie that is first with a result, past its lease, adds nothing to the history."""
    run = await client.submit("script", SCRIPT, conversation_id="frozen")
    zombie = await worker_at("gate", celery_worker_cluster, traces)
    await eventually(lambda: _stored(client, "frozen", 3))
    zombie.kill(signal.SIGSTOP)

    await worker_at("gate", celery_worker_cluster, traces, attempt=2)
    permit(traces, "gate.1")
    zombie.kill(signal.SIGCONT)
    await asyncio.to_thread(wait_until, lambda: _has_dropped(zombie, run.id))
    assert len(await client.history("frozen")) == 3, "the zombie's result was taken"
    permit(traces, "gate")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    check_whole(await client.history("frozen"))


async def test_a_write_whose_answer_was_lost_is_stored_once(
    client: AsyncAgentClient,
    celery_backend_cluster: CeleryBackendCluster,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """The store takes a write in when its worker has given up on the answer, and then the retry."""
    run = await client.submit("script", SCRIPT, conversation_id="unanswered")
    writer = await worker_at("gate", celery_worker_cluster, traces)
    await eventually(lambda: _stored(client, "unanswered", 3))
    retries = _retries(writer)
    store = celery_backend_cluster[0]
    store.kill(signal.SIGSTOP)
    try:
        permit(traces, "gate")
        await asyncio.to_thread(wait_until, lambda: _retries(writer) > retries)
    finally:
        store.kill(signal.SIGCONT)
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    check_whole(await client.history("unanswered"))
    assert (await run.get()).attempts == 1, "another worker did it, and nothing was repeated"


async def test_a_ring_that_is_delivered_many_times_runs_once(
    client: AsyncAgentClient, agents_settings: Settings, traces: Path
) -> None:
    """Twenty deliveries of one ring, before, during and after the run, change nothing."""
    app = create_celery_app(agents_settings)

    def ring(run_id: str) -> None:
        for _ in range(20):
            app.send_task(WAKE_TASK, args=(run_id,), queue=agents_settings.queue_of("script"))

    run = await client.submit("script", SCRIPT, conversation_id="rung")
    await asyncio.to_thread(ring, run.id)
    await eventually(lambda: _stored(client, "rung", 3))
    await asyncio.to_thread(ring, run.id)
    permit(traces, "gate")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    await asyncio.to_thread(ring, run.id)
    last = await client.submit("script", play(), conversation_id="rung")
    await last.result(timeout_s=RESULT_S)
    check_whole([each for each in await client.history("rung") if each.run_id == run.id])
    assert (await run.get()).attempts == 1
    assert started(traces) == ["a", "b", "gate"]
    await asyncio.to_thread(app.close)


def _has_dropped(worker: WorkerNode, run_id: str) -> bool:
    lines = worker.logs().splitlines()
    return any("run.lost" in line and run_id in line for line in lines)


def _retries(worker: WorkerNode) -> int:
    """How often a write of this worker was not answered, and is to be repeated."""
    return int(worker.logs().count("stamina.retry_scheduled"))


async def _stored(client: AsyncAgentClient, conversation_id: str, count: int) -> bool:
    return len(await client.history(conversation_id)) >= count
