"""The end of an example: all workers but one are gone, and every run has to end all the same."""

from itertools import pairwise

from shared.event import StatusEvent
from shared.run import TRANSITIONS, RunStatus
from tests.contract.machine.node import ANSWER, Node
from tests.contract.machine.world import NOBODYS, NODES, World

MAX_CALLS = 60
"""How many calls a sweep and all that it starts in one worker may take for each run."""


async def drain(world: World) -> None:
    """Let one worker do what is left to do, then look for what is left behind."""
    survivor = world.nodes[0]
    if survivor.is_leaving:
        survivor = world.new_node(NODES[0])
    for place in range(1, len(NODES)):
        await world.crash(place, is_replaced=False)
    for call in world.late:
        await world.arrive(call)
        await world.check()
    await _wait(world, survivor)
    await _work_off(world, survivor)
    while active := list(world.reference.active.values()):
        assert active[0].new.agent == NOBODYS, f"nobody got to {active[0]}"
        await world.backend.ledger.cancel(active[0].new.id)
        await world.check()
        await _work_off(world, survivor)
    await check_nothing_is_left(world)


async def _work_off(world: World, survivor: Node) -> None:
    live = sum(run.is_live for run in world.reference.runs.values())
    for _ in range(2 * live + 2):
        await survivor.sweep()
        await world.check()
        for _ in range(MAX_CALLS * (live + 1)):
            if not survivor.waiting:
                break
            await survivor.let(survivor.waiting[0], ANSWER)
            await world.check()
        await _wait(world, survivor)
        if all(run.new.agent == NOBODYS for run in world.reference.active.values()):
            break


async def _wait(world: World, survivor: Node) -> None:
    """More than a lease."""
    for _ in range(3):
        await world.pass_time(38_000)
        await survivor.beat()


async def check_nothing_is_left(world: World) -> None:
    """Every run has ended, readers see it, and no index holds anything of it."""
    await world.backend.ledger.sweep("worker-0", agents=[], limit=0)
    found = await world.check()
    assert all(run.status.is_final for run in found.runs.values()), found.runs
    assert not found.ready | found.cancelling | found.holders
    assert not any(found.leases.values())
    assert not any(found.waiting.values())
    assert not found.active
    await _check_readers(world)


async def _check_readers(world: World) -> None:
    """What is told to everybody outside: lists, histories, and the events of each run."""
    ledger, runs = world.backend.ledger, world.reference.runs
    for status in RunStatus:
        listed = await ledger.list_runs(status=[status], limit=1000)
        expected = {name for name, run in runs.items() if run.status is status}
        assert {run.id for run in listed} == expected
    for history, messages in world.history.messages.items():
        listed_messages = await world.backend.conversations.list_messages(history)
        assert [one.id for one in listed_messages] == [one.id for one in messages]
    for run_id, run in runs.items():
        events = await ledger.list_events(run_id)
        told = [event.status for event in events if isinstance(event, StatusEvent)]
        assert (told[0], told[-1]) == (RunStatus.QUEUED, run.status)
        assert all(to in TRANSITIONS[of] for of, to in pairwise(told)), told
