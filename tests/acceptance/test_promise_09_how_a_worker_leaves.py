"""Promise 9: whichever way a worker is told to leave, and whatever else is wrong at that moment."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from agent_client import AsyncAgentClient, AsyncRun, RunStatus
from agent_worker.testing import WorkerProcess
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play, started
from tests.acceptance.deployment import LEAVE_S, Deployment, deploy, left
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S: Final = 40.0
QUEUED: Final = 100
LONG_GRACE_S: Final = 60.0
NOWHERE: Final = "redis://127.0.0.1:1/0"
TO_DO: Final = play([("wait", "gate")], [("note", "after")])


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Deployment]:
    """A system without workers, whose leases outlast the test."""
    with deploy(tmp_path) as system:
        yield system


async def test_a_full_worker_leaves_its_queue_to_the_next_one(system: Deployment) -> None:
    """With nobody else there, running runs and rings that it holds back wait for who comes next."""
    leaver = await system.add(concurrency=4)
    async with AsyncAgentClient(system.settings) as client:
        script = play([("think", "gate"), ("note", "a")])
        runs = await asyncio.gather(*(client.submit("script", script) for _ in range(QUEUED)))
        await eventually(lambda: _count(client, RunStatus.RUNNING, 4))
        leaver.terminate()
        await left(leaver, grace_s=1.0)
        assert await _count(client, RunStatus.QUEUED, QUEUED)
        await system.add()
        permit(system.traces, "gate")
        for run in runs:
            assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
        records = [await run.get() for run in runs]
    assert {record.crashes for record in records} == {0}
    assert sorted(record.attempts for record in records) == [1] * (QUEUED - 4) + [2] * 4
    assert len(started(system.traces)) == QUEUED, "each tool was executed once"


async def test_every_signal_that_ends_programs_hands_over(system: Deployment) -> None:
    """Ctrl-backslash and a terminal that closes mean what SIGTERM and Ctrl-C mean.

    And no model is waited for, though tools have a long grace.
    """
    signals = (signal.SIGQUIT, signal.SIGHUP)
    leavers = [system.start(grace_s=LONG_GRACE_S) for _ in signals]
    for leaver in leavers:
        await asyncio.to_thread(leaver.wait_ready)
    async with AsyncAgentClient(system.settings) as client:
        runs = [await client.submit("script", play([("think", "gate")])) for _ in range(12)]
        await eventually(lambda: _count(client, RunStatus.RUNNING, len(runs)))
        for leaver, number in zip(leavers, signals, strict=True):
            leaver.send(number)
            await left(leaver, grace_s=0.0)
        records = [await run.get() for run in runs]
    assert {record.status for record in records} == {RunStatus.QUEUED}
    assert {record.crashes for record in records} == {0}


async def test_who_repeats_sigterm_changes_nothing(system: Deployment) -> None:
    """Supervisors do it; a running tool has its grace all the same."""
    leaver = await system.add(grace_s=LONG_GRACE_S)
    async with AsyncAgentClient(system.settings) as client:
        run = await _in_tool(client, system)
        await _told(leaver, signal.SIGTERM)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            leaver.send(number)
        permit(system.traces, "gate")
        await left(leaver, grace_s=LONG_GRACE_S)
        assert len(await run.history()) == 3, "its result was not stored"
        assert (await run.get()).crashes == 0


async def test_who_repeats_ctrl_c_does_not_wait_for_tools(system: Deployment) -> None:
    """The run is handed over as it is, and nobody calls it a crash."""
    leaver = await system.add(grace_s=LONG_GRACE_S)
    async with AsyncAgentClient(system.settings) as client:
        run = await _in_tool(client, system)
        await _told(leaver, signal.SIGINT)
        leaver.send(signal.SIGINT)
        await left(leaver, grace_s=0.0)
        record = await run.get()
    assert (record.status, record.crashes) == (RunStatus.QUEUED, 0)


async def test_who_insists_gets_the_end_on_the_spot(system: Deployment) -> None:
    """Even when nothing can be handed over; the exit code says that this was no good end."""
    leaver = await system.add(grace_s=LONG_GRACE_S)
    async with AsyncAgentClient(system.settings) as client:
        await _in_tool(client, system)
        os.kill(system.store.pid, signal.SIGSTOP)
        await _told(leaver, signal.SIGINT)

        async def is_gone() -> bool:
            leaver.send(signal.SIGINT)
            return leaver.returncode is not None

        await eventually(is_gone, timeout_s=LEAVE_S)
    assert leaver.returncode == 1


async def test_a_worker_leaves_in_time_though_redis_is_away(tmp_path: Path) -> None:
    """One that hangs is not waited for; then, but only then, a run has to wait for a lease."""
    with deploy(tmp_path, lease_s=4.0) as system:
        leaver = await system.add()
        async with AsyncAgentClient(system.settings) as client:
            run = await _in_tool(client, system)
            for server in (system.broker, system.store):
                os.kill(server.pid, signal.SIGSTOP)
            leaver.terminate()
            await left(leaver, grace_s=1.0)
            for server in (system.broker, system.store):
                os.kill(server.pid, signal.SIGCONT)
            permit(system.traces, "gate")
            await system.add()
            assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED


@pytest.mark.parametrize(
    ("away", "event"), [("redis_url", "heartbeat.failed"), ("broker_url", "worker.started")]
)
async def test_a_worker_that_is_not_ready_leaves_as_well(
    system: Deployment, away: str, event: str
) -> None:
    """One that still waits for a store or for a broker."""
    addresses: dict[str, Any] = {away: NOWHERE}
    worker = system.start(**addresses)
    await eventually(lambda: _says(worker, event), timeout_s=RESULT_S)
    worker.terminate()
    await left(worker, grace_s=0.0, slack_s=0.0)


async def _in_tool(client: AsyncAgentClient, system: Deployment) -> AsyncRun:
    """A run in the middle of a tool."""
    run = await client.submit("script", TO_DO)

    async def has_begun() -> bool:
        return bool(executions(system.traces))

    await eventually(has_begun, timeout_s=RESULT_S)
    return run


async def _told(worker: WorkerProcess, number: signal.Signals) -> None:
    """Send a signal, and wait until the runs know of it."""
    worker.send(number)
    await eventually(lambda: _says(worker, "worker.stopping"))


async def _says(worker: WorkerProcess, event: str) -> bool:
    return event in worker.log(since_start=True)


async def _count(client: AsyncAgentClient, status: RunStatus, expected: int) -> bool:
    return len(await client.runs(status=status, limit=expected + 1)) == expected
