"""Promise 2: history is append-only; nothing drops or repeats a message."""

import asyncio
import signal
from pathlib import Path

import pytest
from pytest_celery import CeleryWorkerCluster

from agent_client import AsyncAgentClient, Message, RunStatus
from shared.celery_app import WAKE_TASK, create_celery_app
from shared.settings import Settings
from tests.acceptance.conftest import play
from tests.celery_nodes.local import WorkerNode, wait_until
from tests.traces import executions, permit
from tests.waiting import eventually

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
    victim = await _worker_at_the_gate(celery_worker_cluster, traces)
    await eventually(lambda: _stored(client, "killed", 3))
    victim.kill()
    permit(traces, "gate")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    check_whole(await client.history("killed"))
    starts = [entry["name"] for entry in executions(traces) if entry["event"] == "start"]
    assert sorted(starts) == ["a", "b", "gate", "gate"], "what was finished is not run again"


async def test_a_frozen_worker_that_comes_back_cannot_write(
    client: AsyncAgentClient, celery_worker_cluster: CeleryWorkerCluster, traces: Path
) -> None:
    """A zombie, past its lease while another worker went on, adds nothing to the history."""
    run = await client.submit("script", SCRIPT, conversation_id="frozen")
    zombie = await _worker_at_the_gate(celery_worker_cluster, traces)
    await eventually(lambda: _stored(client, "frozen", 3))
    zombie.kill(signal.SIGSTOP)

    async def taken_over() -> bool:
        return (await run.get()).attempts == 2

    await eventually(taken_over, timeout_s=RESULT_S)
    permit(traces, "gate")
    zombie.kill(signal.SIGCONT)
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    await asyncio.to_thread(wait_until, lambda: _has_dropped(zombie, run.id))
    check_whole(await client.history("frozen"))


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
    await asyncio.to_thread(app.close)


def _has_dropped(worker: WorkerNode, run_id: str) -> bool:
    lines = worker.logs().splitlines()
    return any("run.lost" in line and run_id in line for line in lines)


async def _stored(client: AsyncAgentClient, conversation_id: str, count: int) -> bool:
    return len(await client.history(conversation_id)) >= count


async def _worker_at_the_gate(workers: CeleryWorkerCluster, traces: Path) -> WorkerNode:
    """The worker that waits for the permission `gate`."""

    async def pid_at_gate() -> int | None:
        found = [each["pid"] for each in executions(traces) if each["name"] == "gate"]
        return found[0] if found else None

    pid = await eventually(pid_at_gate, timeout_s=RESULT_S)
    found: WorkerNode = next(each for each in workers if each.container.process.pid == pid)
    return found
