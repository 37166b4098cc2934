"""What a worker does besides executing runs: take, beat, sweep, listen."""

import asyncio
from collections.abc import Collection

import pytest
import structlog

from shared.errors import BrokerUnavailableError, CorruptEntryError, StoreUnavailableError
from shared.run import Lease, RunStatus
from shared.testing.waiting import eventually
from tests.unit.worker.scripted import ScriptedEngine, calls, says
from tests.unit.worker.stage import AGENT, Bell, Pause, Stage, idle, raises

HELLO = (says("hi"),)


# --- taking ---------------------------------------------------------------------------------------


async def test_wake_says_whether_the_run_is_executed_here(stage: Stage) -> None:
    """True for a run that is ready; False for one that is unknown, taken, or another agent's."""
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    other = stage.worker(ScriptedEngine(HELLO))
    run_id = await stage.submit()
    assert await worker.wake(run_id)
    assert worker.active == {run_id}
    assert not await other.wake(run_id)
    assert not await worker.wake(await stage.submit(agent="somebody-else"))
    assert not await worker.wake(run_id[:-1] + ("0" if run_id[-1] != "0" else "1"))
    assert worker.active == {run_id}


async def test_a_run_is_executed_once_however_often_it_is_rung_for(stage: Stage) -> None:
    """Rings may come doubled, at once or while the run is being executed."""
    pause = Pause(1)
    engine = ScriptedEngine(HELLO, before_step=pause)
    worker = stage.worker(engine)
    run_id = await stage.submit()
    taken = await asyncio.gather(*[worker.wake(run_id) for _ in range(5)])
    assert sorted(taken) == [False] * 4 + [True]
    await pause.reached.wait()
    assert not await worker.wake(run_id)
    pause.released.set()
    await idle(worker)
    assert not await worker.wake(run_id)
    assert len(engine.requests) == 1


async def test_a_full_worker_lets_whoever_rings_wait() -> None:
    """The next run is taken when one ends, in the order of the rings."""
    stage = Stage(concurrency=1)
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    first, second, third = [await stage.submit() for _ in range(3)]
    await worker.wake(first)
    waiting = [asyncio.create_task(worker.wake(run_id)) for run_id in (second, third)]
    await pause.reached.wait()
    assert (await stage.ledger.get(second)).status is RunStatus.QUEUED
    assert not any(task.done() for task in waiting)
    pause.released.set()
    assert await asyncio.gather(*waiting) == [True, True]
    ended = [await stage.ended(run_id) for run_id in (second, third)]
    assert ended[0].finished_at is not None
    assert ended[1].started_at is not None
    assert ended[0].finished_at <= ended[1].started_at
    await stage.aclose()


async def test_two_rings_that_waited_for_room_start_a_run_once() -> None:
    """The ledger would give this worker the lease that it has again; the runtime must not ask."""
    stage = Stage(concurrency=2)
    pauses = [Pause(1), Pause(1)]
    queue = iter([*pauses, Pause(1)])

    async def pause(step: int) -> None:
        if step == 1:
            await next(queue)(step)

    engine = ScriptedEngine(HELLO, before_step=pause)
    worker = stage.worker(engine)
    for _ in pauses:
        await worker.wake(await stage.submit())
    run_id = await stage.submit()
    waiting = [asyncio.create_task(worker.wake(run_id)) for _ in range(2)]
    for first in pauses:
        await first.reached.wait()
    for first in pauses:
        first.released.set()
    assert sorted(await asyncio.gather(*waiting)) == [False, True]
    assert worker.active == {run_id}
    await stage.aclose()


async def test_a_run_that_could_not_be_leased_gives_its_slot_back() -> None:
    """A store that is away, or a run that somebody else has, must not wear a worker out."""
    stage = Stage(concurrency=1)
    worker = stage.worker(ScriptedEngine(HELLO))
    stage.faults.add("lease", raises(StoreUnavailableError("away")))
    run_id = await stage.submit()
    assert not await worker.wake(run_id)
    assert not await worker.wake(run_id[:-4] + "0000")
    assert await worker.wake(run_id)
    await stage.aclose()


# --- beating and sweeping -------------------------------------------------------------------------


async def test_a_worker_says_what_it_serves_and_how_busy_it_is(stage: Stage) -> None:
    """Others read its agents, its queue and the number of its runs from the heartbeat."""
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    await worker.start()
    await worker.wake(await stage.submit())

    async def is_busy() -> bool:
        return [info.active_runs for info in await stage.ledger.list_workers()] == [1]

    await eventually(is_busy)
    [info] = await stage.ledger.list_workers()
    assert info.id == worker.worker_id
    assert [(agent.name, agent.queue) for agent in info.agents] == [(AGENT, "agents")]


async def test_a_worker_waits_for_a_store_that_is_not_there_yet(stage: Stage) -> None:
    """It starts once the store does, in whatever order they are brought up."""
    away = raises(StoreUnavailableError("away"))
    stage.faults.add("beat", away, away)
    worker = stage.worker(ScriptedEngine(HELLO))
    await worker.start()
    assert [info.id for info in await stage.ledger.list_workers()] == [worker.worker_id]


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), CorruptEntryError("what")])
async def test_known_errors_do_not_end_a_background_task(stage: Stage, error: Exception) -> None:
    """They are logged, and the next beat comes."""
    worker = stage.worker(ScriptedEngine(HELLO))
    await worker.start()
    with structlog.testing.capture_logs() as entries:
        stage.faults.add("beat", raises(error), raises(error))

        async def has_failed_twice() -> bool:
            return not stage.faults.before["beat"]

        await eventually(has_failed_twice)
        await worker.wake(await stage.submit())

        async def beats_again() -> bool:
            return worker._beaten_at > failed_at

        failed_at = asyncio.get_running_loop().time()
        await eventually(beats_again)
    assert [entry["event"] for entry in entries].count("heartbeat.failed") == 2


async def test_a_beat_that_hangs_does_not_cost_the_lease() -> None:
    """One dead connection must not look like a dead worker, whatever the store's time-out."""
    stage = Stage(lease_s=1.5)
    worker = stage.worker(ScriptedEngine(HELLO))
    stage.faults.add("beat", stage.faults.hang)
    await worker.start()
    stage.faults.add("beat", stage.faults.hang)
    beaten_at = worker._beaten_at

    async def beats_again() -> bool:
        return worker._beaten_at > beaten_at

    await eventually(beats_again)
    assert worker._beaten_at - beaten_at < stage.settings.lease_s
    await stage.aclose()


async def test_a_defect_in_a_background_task_brings_the_worker_down(stage: Stage) -> None:
    """A worker without a heartbeat must not look alive; whoever runs it is told why."""
    worker = stage.worker(ScriptedEngine(HELLO))
    await worker.start()
    defect = ZeroDivisionError("a defect")
    stage.faults.add("beat", raises(defect))
    async with asyncio.timeout(5):
        assert await worker.wait_failed() is defect


async def test_a_run_that_nobody_was_rung_for_is_found(stage: Stage) -> None:
    """A lost ring costs the pick-up time and nothing else."""
    worker = stage.worker(ScriptedEngine(HELLO))
    await worker.start()
    run_id = await stage.submit()
    stage.clock.advance(stage.settings.pickup_s)
    assert (await stage.ended(run_id)).status is RunStatus.COMPLETED


async def test_a_run_that_cannot_be_read_does_not_hold_up_others(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes first in every sweep, since it is overdue for longest."""
    lease = stage.ledger.lease
    unreadable, other = await stage.submit(), await stage.submit()

    async def lease_readable(
        run_id: str, worker_id: str, *, agents: Collection[str], takes_suspect: bool
    ) -> Lease | None:
        if run_id == unreadable:
            raise CorruptEntryError("from a newer version")
        return await lease(run_id, worker_id, agents=agents, takes_suspect=takes_suspect)

    monkeypatch.setattr(stage.ledger, "lease", lease_readable)
    stage.clock.advance(stage.settings.pickup_s + 1)
    worker = stage.worker(ScriptedEngine(HELLO))
    await worker.start()
    assert (await stage.ended(other)).status is RunStatus.COMPLETED
    assert not await worker.wake(unreadable)


async def test_a_full_worker_leaves_overdue_runs_to_others() -> None:
    """It takes no more than it has room for."""
    stage = Stage(concurrency=1)
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    await worker.start()
    await worker.wake(await stage.submit())
    overdue = await stage.submit()
    stage.clock.advance(stage.settings.pickup_s)
    other = stage.worker(ScriptedEngine(HELLO))
    await other.start()
    run = await stage.ended(overdue)
    assert run.worker_id == other.worker_id
    await stage.aclose()


async def test_runs_of_dead_workers_are_rung_for(stage: Stage) -> None:
    """Who finds them is not who must take them: the dispatcher spreads them."""
    run_id = await stage.submit()
    assert await stage.ledger.lease(run_id, "dead", agents=[AGENT])
    stage.clock.advance(stage.settings.lease_s + 1)
    bell = Bell()
    worker = stage.worker(ScriptedEngine(HELLO), dispatcher=bell)
    await worker.start()

    async def is_rung() -> bool:
        return [wake_up.run_id for wake_up in bell.rung] == [run_id]

    await eventually(is_rung)


async def test_suspects_are_executed_one_at_a_time(stage: Stage) -> None:
    """Rings do not change that; the next one has its turn when one has stored a message."""
    suspects = [await stage.submit() for _ in range(3)]
    for _ in range(stage.settings.max_crashes - 1):
        await stage.crash(*suspects)
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    await worker.start()
    await pause.reached.wait()
    other = await stage.submit()
    assert await worker.wake(other), "a run that never crashed may run beside it"
    assert not any([await worker.wake(run_id) for run_id in suspects])
    await sweep_again(stage)
    assert len(worker.active & set(suspects)) == 1
    pause.released.set()
    for run_id in suspects:
        run = await stage.ended(run_id)
        assert (run.status, run.strikes) == (RunStatus.COMPLETED, 0)


async def test_a_run_that_makes_progress_outlives_any_number_of_crashes(stage: Stage) -> None:
    """Only deaths at one point of the run, one after the other, are held against it."""
    script = (*[calls("search")] * 4, says("done"))
    run_id = await stage.submit("room")
    for step in range(2, 9):
        pause = Pause(step)
        assert await stage.worker(ScriptedEngine(script, before_step=pause)).wake(run_id)
        await pause.reached.wait()
        stage.clock.advance(stage.settings.lease_s + 1)
        await stage.ledger.sweep("sweeper", agents=[], limit=0)
        assert (await stage.ledger.get(run_id)).strikes == 1
    run = await stage.execute(ScriptedEngine(script), run_id)
    assert (run.status, run.attempts, run.crashes) == (RunStatus.COMPLETED, 8, 7)


async def sweep_again(stage: Stage) -> None:
    """Wait until the worker has looked around a few times more."""
    stage.faults.add("sweep", *[_nothing_happens] * 3, after=True)

    async def is_over() -> bool:
        return not stage.faults.after["sweep"]

    await eventually(is_over)


async def _nothing_happens() -> None:
    """A fault that is none."""


async def test_a_broker_that_is_down_does_not_stop_the_sweep(stage: Stage) -> None:
    """The run was found, and comes overdue if it cannot be rung for."""
    run_id = await stage.submit()
    assert await stage.ledger.lease(run_id, "dead", agents=[AGENT])
    stage.clock.advance(stage.settings.lease_s + 1)
    bell = Bell(BrokerUnavailableError("down"))
    worker = stage.worker(ScriptedEngine(HELLO), dispatcher=bell)
    await worker.start()

    async def is_taken_back() -> bool:
        return (await stage.ledger.get(run_id)).crashes == 1

    await eventually(is_taken_back)
    stage.clock.advance(stage.settings.pickup_s)
    assert (await stage.ended(run_id)).status is RunStatus.COMPLETED


async def test_a_cancel_whose_hint_was_lost_is_found(stage: Stage) -> None:
    """The hint makes it quick; the sweep makes it sure."""
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    stage.ledger.control_topic = lambda worker_id: "nowhere"  # type: ignore[method-assign]
    await worker.start()
    del stage.ledger.control_topic  # the worker listens where nobody speaks
    run_id = await stage.submit()
    await worker.wake(run_id)
    await stage.ledger.cancel(run_id)
    assert (await stage.ended(run_id)).status is RunStatus.CANCELLED


async def test_a_hint_that_the_ledger_does_not_confirm_stops_nothing(stage: Stage) -> None:
    """A hint is not the truth: the run goes on."""
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    await worker.start()
    run_id = await stage.submit()
    await worker.wake(run_id)
    await pause.reached.wait()
    topic = stage.ledger.control_topic(worker.worker_id)
    for hint in (run_id, "nonsense", run_id):
        stage.ledger.notifications.publish(topic, hint)
    pause.released.set()
    assert (await stage.ended(run_id)).status is RunStatus.COMPLETED


async def test_a_run_that_was_taken_away_is_dropped(stage: Stage) -> None:
    """A worker learns from its sweep that a run is not its own any more, and stops its engine."""
    pause = Pause(1)
    engine = ScriptedEngine(HELLO, before_step=pause)
    worker = stage.worker(engine)
    await worker.start()
    run_id = await stage.submit()
    await worker.wake(run_id)
    await pause.reached.wait()
    with structlog.testing.capture_logs() as entries:
        stage.clock.advance(stage.settings.lease_s + 1)
        await stage.ledger.sweep("other", agents=[], limit=0)  # before the worker can beat

        async def is_lost() -> bool:
            return "run.lost" in [entry["event"] for entry in entries]

        await eventually(is_lost)
    assert not pause.released.is_set()


async def test_a_run_leased_during_a_sweep_is_not_taken_for_a_lost_one(stage: Stage) -> None:
    """An answer that is older than the lease says nothing about it."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await released.wait()

    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    stage.faults.add("sweep", hold, after=True)
    sweeping = asyncio.create_task(worker._sweep())
    await reached.wait()
    run_id = await stage.submit()
    assert await worker.wake(run_id)
    await pause.reached.wait()
    released.set()
    await sweeping
    pause.released.set()
    run = await stage.ended(run_id)
    assert (run.status, run.attempts) == (RunStatus.COMPLETED, 1)


async def test_a_worker_does_not_find_itself_dead(stage: Stage) -> None:
    """After a stall of its process, it beats before it sweeps."""
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    await worker.start()
    await worker._background.aclose()
    run_id = await stage.submit()
    await worker.wake(run_id)
    await pause.reached.wait()
    worker._beaten_at -= stage.settings.lease_s
    stage.clock.advance(stage.settings.lease_s + 1)
    await worker._sweep()
    assert (await stage.ledger.get(run_id)).crashes == 0
    assert worker.active == {run_id}


async def test_a_lease_whose_answer_was_lost_is_taken_up(stage: Stage) -> None:
    """The ledger says that this worker has the run; so it executes it."""
    worker = stage.worker(ScriptedEngine(HELLO))
    run_id = await stage.submit()
    stage.faults.add("lease", raises(StoreUnavailableError("away")), after=True)
    assert not await worker.wake(run_id)
    assert (await stage.ledger.get(run_id)).status is RunStatus.RUNNING
    await worker.start()
    run = await stage.ended(run_id)
    assert (run.status, run.attempts) == (RunStatus.COMPLETED, 1)
