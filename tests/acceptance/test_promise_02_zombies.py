"""Promise 2, zombies: a worker that lost its runs and does not know it cannot write.

Frozen, held up by a tool, or cut off from the store for longer than a lease: the run goes on
elsewhere; and when the worker is back, it drops the run, says so and serves others.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from agent_client import AsyncAgentClient, RunStatus
from agent_worker.testing import WorkerProcess
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play
from tests.celery_nodes.local import wait_until
from tests.faulty import FaultySystem
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0
SCRIPT = play([("note", "a"), ("wait", "gate"), ("wait", "other")], [("note", "b")])


@dataclass(frozen=True)
class Fate:
    """How a worker becomes a zombie, and how it comes back."""

    name: str
    strike: Callable[[FaultySystem, WorkerProcess], None]
    revive: Callable[[FaultySystem, WorkerProcess], None]


FATES = [
    Fate("frozen", lambda _, worker: worker.freeze(), lambda _, worker: worker.thaw()),
    Fate(
        "connections reset",
        lambda system, worker: system.network_of(worker).cut(),
        lambda system, worker: system.network_of(worker).restore(),
    ),
    Fate(
        "packets lost",
        lambda system, worker: system.network_of(worker).black_hole(),
        lambda system, worker: system.network_of(worker).restore(),
    ),
]


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.name.replace(" ", "-"))
async def test_a_zombie_with_a_result_is_refused(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, fate: Fate
) -> None:
    """Its tool ended, the successor's did not: its result is not taken, its tools are stopped."""
    conversation = f"zombie:{fate.name.replace(' ', '-')}"
    faulty.wait_ready(2)
    run = await faulty_client.submit("script", SCRIPT, conversation_id=conversation)
    zombie = await worker_of(faulty, "gate", 1)
    await worker_of(faulty, "other", 1)
    await eventually(lambda: stored(faulty_client, conversation, 3), timeout_s=RESULT_S)
    fate.strike(faulty, zombie)
    assert await worker_of(faulty, "gate", 2) is not zombie

    permit(faulty.traces, "gate.1")
    fate.revive(faulty, zombie)
    await asyncio.to_thread(wait_until, partial(says, zombie, "run.lost", run.id))
    assert len(await faulty_client.history(conversation)) == 3, "the zombie's result was taken"
    await eventually(lambda: is_cancelled(faulty, "other", 1))

    permit(faulty.traces, "gate")
    permit(faulty.traces, "other")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    messages = await faulty_client.history(conversation)
    assert [message.position for message in messages] == list(range(8))
    assert (await run.get()).attempts == 2
    await check_serves(faulty_client, faulty, zombie)


async def test_a_zombie_without_a_result_is_told_by_its_sweep(
    faulty_client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """It has nothing to write, so nothing refuses it; it still stops what nobody waits for."""
    faulty.wait_ready(2)
    run = await faulty_client.submit("script", SCRIPT, conversation_id="silent")
    zombie = await worker_of(faulty, "gate", 1)
    await worker_of(faulty, "other", 1)
    await eventually(lambda: stored(faulty_client, "silent", 3), timeout_s=RESULT_S)
    stalls = zombie.log().count("process.stalled")
    zombie.freeze()
    assert await worker_of(faulty, "gate", 2) is not zombie
    zombie.thaw()
    await asyncio.to_thread(wait_until, lambda: zombie.log().count("process.stalled") > stalls)
    for name in ("gate", "other"):
        await eventually(partial(is_cancelled, faulty, name, 1))
    await asyncio.to_thread(wait_until, partial(says, zombie, "run.lost", run.id))
    permit(faulty.traces, "gate")
    permit(faulty.traces, "other")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED


async def test_a_tool_that_holds_up_the_loop_costs_its_worker_the_runs(
    faulty_client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """All runs of the worker go on elsewhere, and it says which line held it up."""
    faulty.wait_ready(2)
    bystander = await faulty_client.submit("script", SCRIPT, conversation_id="bystander")
    zombie = await worker_of(faulty, "gate", 1)
    other = faulty.other_than(zombie)
    await eventually(lambda: stored(faulty_client, "bystander", 3), timeout_s=RESULT_S)
    permit(faulty.traces, "hold.2")
    other.freeze()  # so that the zombie takes it
    blocking = await faulty_client.submit(
        "script", play([("block", "hold")]), conversation_id="blocking"
    )
    assert await worker_of(faulty, "hold", 1) is zombie
    other.thaw()

    assert (await blocking.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert await worker_of(faulty, "gate", 2) is other
    permit(faulty.traces, "hold.1")
    for run in (blocking, bystander):
        await asyncio.to_thread(wait_until, partial(says, zombie, "run.lost", run.id))
    await asyncio.to_thread(
        wait_until, partial(says, zombie, "loop.blocked", "tests.agents.block:")
    )
    for name in ("gate", "other"):
        await eventually(partial(is_cancelled, faulty, name, 1))
        permit(faulty.traces, name)
    assert (await bystander.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    for conversation, length in (("bystander", 8), ("blocking", 4)):
        messages = await faulty_client.history(conversation)
        assert [message.position for message in messages] == list(range(length))
    await check_serves(faulty_client, faulty, zombie)


async def check_serves(
    client: AsyncAgentClient, system: FaultySystem, worker: WorkerProcess
) -> None:
    """Assert that this worker executes a run; all others are frozen."""
    system.other_than(worker).freeze()
    run = await client.submit("script", play([("note", "after")]))
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert await worker_of(system, "after", 1) is worker


async def worker_of(system: FaultySystem, name: str, attempt: int) -> WorkerProcess:
    """The worker that has started the tool call with this argument, once one has."""

    async def pid() -> int | None:
        return next(
            (
                each["pid"]
                for each in executions(system.traces)
                if (each["name"], each["attempt"]) == (name, attempt)
            ),
            None,
        )

    found = await eventually(pid, timeout_s=RESULT_S)
    assert found is not None
    return system.find(found)


async def is_cancelled(system: FaultySystem, name: str, attempt: int) -> bool:
    wanted = ("cancel", name, attempt)
    entries = executions(system.traces)
    return any((each["event"], each["name"], each["attempt"]) == wanted for each in entries)


async def stored(client: AsyncAgentClient, conversation_id: str, count: int) -> bool:
    return len(await client.history(conversation_id)) >= count


def says(worker: WorkerProcess, event: str, what: str) -> bool:
    """Whether a line of the worker's log holds both."""
    return any(event in line and what in line for line in worker.log().splitlines())
