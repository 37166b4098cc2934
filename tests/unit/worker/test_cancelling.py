"""How a run is stopped: by a cancel, by a run that interrupts it, by one that rolls it back."""

import asyncio

import pytest
import structlog

from agent_worker.execution import drive
from agent_worker.execution.closing import open_calls
from shared.message import ToolOutcome
from shared.run import BusyPolicy, RunOptions, RunStatus
from shared.testing.waiting import eventually
from tests.unit.worker.scripted import ScriptedEngine, calls, says
from tests.unit.worker.stage import Bell, Pause, Stage, idle

SCRIPT = (calls("search", "read"), calls("write"), says("done"))
LAST = 7
"""How many messages that makes, the input included."""


@pytest.mark.parametrize("step", range(1, LAST + 1))
@pytest.mark.parametrize("save_on_iteration", [True, False])
async def test_a_cancelled_run_leaves_a_history_in_good_order(
    stage: Stage, step: int, save_on_iteration: bool
) -> None:
    """Wherever it is stopped: what it wrote stays, open calls get a result that says so, and the
    next run of the conversation sees a history in which each call has one result."""
    pause = Pause(step)
    engine = ScriptedEngine(SCRIPT, before_step=pause)
    worker = stage.worker(engine)
    options = RunOptions(save_on_iteration=save_on_iteration)
    run_id = await stage.submit("room", options=options)
    await worker.start()
    await worker.wake(run_id)
    await pause.reached.wait()
    await stage.ledger.cancel(run_id)
    run = await stage.ended(run_id)
    messages = await stage.history(run_id)
    assert (run.status, run.error) == (RunStatus.CANCELLED, None)
    assert open_calls(messages) == ()
    assert [message.position for message in messages] == list(range(len(messages)))
    cancelled = [message for message in messages if message.outcome is ToolOutcome.CANCELLED]
    assert len(cancelled) == {2: 2, 3: 1, 5: 1}.get(step, 0)
    assert all("cancelled" in message.text for message in cancelled)
    assert len(messages) == step + len(cancelled)
    following = await stage.execute(
        ScriptedEngine([says("hi")]), await stage.submit("room"), options=None
    )
    assert following.status is RunStatus.COMPLETED


async def test_a_run_cancelled_between_two_workers_is_closed_without_its_engine(
    stage: Stage,
) -> None:
    """Whoever leases it next sees the wish and asks no model."""
    pause = Pause(2)
    first = stage.worker(ScriptedEngine(SCRIPT, before_step=pause))
    run_id = await stage.submit("room")
    await first.wake(run_id)
    await pause.reached.wait()
    await first.shutdown(0)
    await stage.ledger.cancel(run_id)
    engine = ScriptedEngine(SCRIPT)
    run = await stage.execute(engine, run_id)
    assert run.status is RunStatus.CANCELLED
    assert engine.requests == []
    assert open_calls(await stage.history(run_id)) == ()
    assert len(await stage.history(run_id)) == 4


async def test_a_rolled_back_run_leaves_nothing(stage: Stage) -> None:
    """The run that asked for it finds the conversation as if the other had never been."""
    pause = Pause(4)
    worker = stage.worker(ScriptedEngine(SCRIPT, before_step=pause))
    await worker.start()
    first = await stage.submit("room")
    await worker.wake(first)
    await pause.reached.wait()
    second = await stage.submit("room", input="instead", on_busy=BusyPolicy.ROLLBACK)
    assert (await stage.ended(first)).status is RunStatus.CANCELLED
    assert (await stage.ended(second)).status is RunStatus.COMPLETED
    assert {message.run_id for message in await stage.history(second)} == {second}


@pytest.mark.parametrize("engine", [ScriptedEngine(SCRIPT), ScriptedEngine([])])
async def test_a_rollback_in_the_last_moment_leaves_nothing(
    stage: Stage, engine: ScriptedEngine
) -> None:
    """The run was through, or had failed, and only its outcome was not stored yet."""
    submitted: list[str] = []

    async def roll_back() -> None:
        submitted.append(await stage.submit("room", on_busy=BusyPolicy.ROLLBACK))

    stage.faults.add("finish", roll_back)
    run = await stage.execute(engine, await stage.submit("room"), dispatcher=Bell())
    assert (run.status, run.output) == (RunStatus.CANCELLED, None)
    assert await stage.history(run.id) == []
    following = await stage.execute(ScriptedEngine([says("hi")]), submitted[0])
    assert following.status is RunStatus.COMPLETED


async def test_a_rollback_of_a_run_that_is_being_cancelled_leaves_nothing(stage: Stage) -> None:
    """Its messages were closed already when the wish came."""
    pause = Pause(4)
    worker = stage.worker(ScriptedEngine(SCRIPT, before_step=pause))
    await worker.start()
    first = await stage.submit("room")

    async def roll_back() -> None:
        await stage.submit("room", on_busy=BusyPolicy.ROLLBACK)

    stage.faults.add("finish", roll_back)
    await worker.wake(first)
    await pause.reached.wait()
    await stage.ledger.cancel(first)
    assert (await stage.ended(first)).status is RunStatus.CANCELLED
    assert first not in {message.run_id for message in await stage.history(first)}


async def test_an_interrupted_run_keeps_what_it_wrote(stage: Stage) -> None:
    """The interrupting run goes on from a history in good order."""
    pause = Pause(2)
    engine = ScriptedEngine(SCRIPT, before_step=pause)
    worker = stage.worker(engine)
    await worker.start()
    first = await stage.submit("room")
    await worker.wake(first)
    await pause.reached.wait()
    second = await stage.submit("room", input="stop", on_busy=BusyPolicy.INTERRUPT)
    assert (await stage.ended(second)).status is RunStatus.COMPLETED
    assert len(engine.requests[-1].history) == 4
    assert open_calls(engine.requests[-1].history) == ()


async def test_an_engine_that_ignores_its_cancellation_is_left_behind(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run ends in bounded time, and what the engine says later is not stored."""
    monkeypatch.setattr(drive, "HALT_S", 0.05)
    reached, released = asyncio.Event(), asyncio.Event()

    async def stubborn(step: int) -> None:
        while step == 2 and not released.is_set():
            reached.set()
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    engine = ScriptedEngine(SCRIPT, before_step=stubborn)
    worker = stage.worker(engine)
    await worker.start()
    run_id = await stage.submit("room")
    await worker.wake(run_id)
    await reached.wait()
    with structlog.testing.capture_logs() as entries:
        await stage.ledger.cancel(run_id)
        await stage.ended(run_id)
    assert "engine.stuck" in [entry["event"] for entry in entries]
    before = await stage.history(run_id)
    released.set()

    async def has_gone_on() -> bool:
        return engine.executed != []

    await eventually(has_gone_on)
    await idle(worker)
    assert await stage.history(run_id) == before
