"""How a worker stops: it takes nothing more, hands over what it has, and says farewell."""

import asyncio

import pytest
import structlog

from shared.run import RunStatus
from shared.testing.waiting import eventually
from tests.unit.worker.scripted import ScriptedEngine, calls, says
from tests.unit.worker.stage import Bell, Pause, Stage, idle

HELLO = (says("hi"),)


async def test_a_stopping_worker_takes_nothing_and_says_so_at_once() -> None:
    """Whoever waits for room in it is let go, and the runs stay ready for others."""
    stage = Stage(concurrency=1)
    pause = Pause(1)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause))
    await worker.wake(await stage.submit())
    run_id = await stage.submit()
    waiting = asyncio.create_task(worker.wake(run_id))
    await pause.reached.wait()
    worker.stop_taking()
    async with asyncio.timeout(1):
        assert not await waiting
        assert not await worker.wake(run_id)
    assert (await stage.ledger.get(run_id)).status is RunStatus.QUEUED
    await stage.aclose()


async def test_what_is_handed_over_is_rung_for(stage: Stage) -> None:
    """Another worker need not wait for a sweep."""
    pause, bell = Pause(1), Bell()
    worker = stage.worker(ScriptedEngine(HELLO, before_step=pause), dispatcher=bell)
    run_id = await stage.submit()
    await worker.wake(run_id)
    await pause.reached.wait()
    await worker.shutdown(5)
    assert [wake_up.run_id for wake_up in bell.rung] == [run_id]


async def test_a_run_leased_while_the_worker_stops_is_handed_over(stage: Stage) -> None:
    """The answer to a lease may come late; the run must not be kept, nor forgotten."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await released.wait()

    async def is_stopping() -> bool:
        return worker._is_stopping

    stage.faults.add("lease", hold, after=True)
    worker = stage.worker(ScriptedEngine(HELLO, before_step=Pause(1)))
    run_id = await stage.submit("room")
    waking = asyncio.create_task(worker.wake(run_id))
    await reached.wait()
    shutdown = asyncio.create_task(worker.shutdown(5))
    await eventually(is_stopping)
    released.set()
    await waking
    await shutdown
    run = await stage.ledger.get(run_id)
    assert (run.status, run.crashes) == (RunStatus.QUEUED, 0)


async def test_no_tool_starts_behind_a_stop(stage: Stage) -> None:
    """The model answers when its run has just been stopped: the answer is kept, and that is all."""
    pause = Pause(1)
    engine = ScriptedEngine([calls("search"), says("done")], before_step=pause)
    worker = stage.worker(engine)
    run_id = await stage.submit("room")
    await worker.wake(run_id)
    await pause.reached.wait()
    pause.released.set()
    worker.hurry()
    await idle(worker)
    assert len(await stage.history(run_id)) == 2
    assert engine.executed == []


async def test_a_worker_that_stopped_is_gone_from_the_list(stage: Stage) -> None:
    """Clients and other workers need not wait for its heartbeat to grow old."""
    worker = stage.worker(ScriptedEngine(HELLO))
    await worker.start()
    assert len(await stage.ledger.list_workers()) == 1
    await asyncio.gather(worker.shutdown(0), worker.shutdown(0))
    assert await stage.ledger.list_workers() == []


async def test_stopping_takes_bounded_time_whatever_hangs(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that hangs costs the margin; the run is dropped, and found by others."""
    monkeypatch.setattr("agent_worker.runtime.STOP_MARGIN_S", 0.1)
    monkeypatch.setattr("agent_worker.execution.executor.ENDING_PATIENCE_S", 0.1)
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await stage.faults.hang()

    stage.faults.add("finish", hang)
    worker = stage.worker(ScriptedEngine(HELLO))
    run_id = await stage.submit("room")
    await worker.wake(run_id)
    await reached.wait()
    with structlog.testing.capture_logs() as entries:
        async with asyncio.timeout(5):
            await worker.shutdown(0)
    assert "run.dropped" in [entry["event"] for entry in entries]
    assert worker.active == frozenset()
    stage.clock.advance(stage.settings.lease_s + 1)
    other = stage.worker(ScriptedEngine([calls("never")]))
    await other.start()
    assert (await stage.ended(run_id)).output == "hi"
