"""`agent-worker start --processes 2`: two whole workers, and the process that keeps them alive."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from agent_client import AsyncAgentClient, AsyncRun, RunStatus
from agent_worker.cli.report import ExitCode
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play
from tests.acceptance.deployment import LEAVE_S, SLACK_S, Deployment, deploy, left
from tests.celery_nodes.fixtures import REPOSITORY
from tests.traces import executions, permit

pytestmark = pytest.mark.integration

PROCESSES: Final = 2
MANY: Final = 100
"""So many runs never go to one of two processes alone."""
TAKEN_S: Final = 20.0
LEASE_S: Final = 3.0
GRACE_S: Final = 1.0


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Deployment]:
    """A system without workers, whose runs are missed soon."""
    with deploy(tmp_path, lease_s=LEASE_S) as system:
        yield system


@pytest.mark.slow
async def test_one_of_several_processes_dies_and_all_of_them_leave(system: Deployment) -> None:
    """Death: the other one goes on, a new one comes, and no run is lost. SIGTERM: all hand over."""
    worker = await system.add(processes=PROCESSES)
    async with AsyncAgentClient(system.settings) as client:
        victim, other = await _alive(client)
        assert worker.pid not in (victim, other), "who supervises serves nothing"
        runs = await _runs_in_each(client, system, "first", {victim, other})
        taken = [name for name, pid in _places(system).items() if pid == victim]
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: _have_moved(system, taken, victim), timeout_s=TAKEN_S)
        successor = await _successor(client, {victim, other})
        for name, run in runs.items():
            permit(system.traces, name)
            assert (await run.result(timeout_s=TAKEN_S)).status is RunStatus.COMPLETED
            assert (await run.get()).crashes == int(name in taken), "the others were left alone"
        assert '"signal": "SIGKILL"' in worker.log()

        runs = await _runs_in_each(client, system, "second", {other, successor})
        worker.terminate()
        await left(worker, grace_s=GRACE_S)
        records = [await run.get() for run in runs.values()]
    assert {(record.status, record.crashes) for record in records} == {(RunStatus.QUEUED, 0)}
    assert await _are_gone([other, successor])


async def test_processes_leave_when_their_supervisor_is_killed(system: Deployment) -> None:
    """Nobody is left to tell them; they find out, and hand over as on SIGTERM."""
    worker = await system.add(processes=PROCESSES)
    async with AsyncAgentClient(system.settings) as client:
        pids = await _alive(client)
        runs = await _runs_in_each(client, system, "run", set(pids))
        worker.kill()
        await eventually(lambda: _are_gone(pids), timeout_s=GRACE_S + LEAVE_S + SLACK_S)
        records = [await run.get() for run in runs.values()]
    assert {(record.status, record.crashes) for record in records} == {(RunStatus.QUEUED, 0)}


def test_a_module_that_is_not_there_is_told_once() -> None:
    """By one process, in the words and with the code of a worker that is alone."""
    done = subprocess.run(
        [sys.executable, "-m", "agent_worker.cli", "start", "not_there_at_all", "--processes", "4"],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
        cwd=REPOSITORY,
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.count("Error: The module 'not_there_at_all' cannot be imported") == 1
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert done.stderr.count("process.started") == 1


async def _alive(client: AsyncAgentClient) -> list[int]:
    """The process ids of the workers that announced themselves, once all have."""

    async def pids() -> list[int]:
        found = sorted(worker.pid for worker in await client.workers())
        return found if len(found) == PROCESSES else []

    return await eventually(pids)


async def _successor(client: AsyncAgentClient, known: set[int]) -> int:
    """The process id of a worker that was not there before."""

    async def pid() -> int | None:
        return next((one.pid for one in await client.workers() if one.pid not in known), None)

    found = await eventually(pid, timeout_s=TAKEN_S)
    assert found is not None
    return found


async def _runs_in_each(
    client: AsyncAgentClient, system: Deployment, kind: str, pids: set[int]
) -> dict[str, AsyncRun]:
    """Submit runs until each process is in the middle of a tool. By the arguments of the tools."""
    runs: dict[str, AsyncRun] = {}
    while not pids <= set(_places(system, kind).values()):
        assert len(runs) < MANY, f"of {pids} only {set(_places(system, kind).values())} take runs"
        name = f"{kind}-{len(runs)}"
        runs[name] = await client.submit("script", play([("wait", name)]))
        await eventually(lambda: _are_at_work(system, kind, len(runs)), timeout_s=TAKEN_S)
    return runs


def _places(system: Deployment, kind: str = "") -> dict[str, int]:
    """Which process is, or was last, at work at each call of a tool."""
    started = [each for each in executions(system.traces) if each["event"] == "start"]
    return {each["name"]: each["pid"] for each in started if each["name"].startswith(kind)}


async def _are_at_work(system: Deployment, kind: str, count: int) -> bool:
    return len(_places(system, kind)) == count


async def _have_moved(system: Deployment, names: Sequence[str], victim: int) -> bool:
    places = _places(system)
    return all(places[name] != victim for name in names)


async def _are_gone(pids: Sequence[int]) -> bool:
    """Whether none of them exists; who waits for nothing but its parent's look counts as gone."""
    command = ["ps", "-o", "stat=", "-p", ",".join(map(str, pids))]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    return all(state.startswith("Z") for state in done.stdout.split())
