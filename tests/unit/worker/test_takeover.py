"""A run that is cut off at any point and continued by another worker ends like one that was not."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import structlog

from agent_worker.execution.closing import open_calls
from agent_worker.runtime import Runtime
from shared.message import MessageKind, ToolOutcome
from shared.run import RunOptions, RunStatus
from shared.testing.waiting import eventually
from tests.unit.worker.scripted import ScriptedEngine, calls, says
from tests.unit.worker.stage import Pause, Stage, idle, told

SCRIPT = (calls("search", "read"), calls("write"), says("done"))
STEPS = range(1, 8)
"""Points at which an engine waits: with so many messages stored."""


async def uninterrupted_history() -> list[tuple[Any, ...]]:
    """What the run's messages look like when nothing happens to it."""
    stage = Stage()
    run_id = await stage.submit("room")
    await stage.execute(ScriptedEngine(SCRIPT), run_id)
    await stage.aclose()
    return told(await stage.history(run_id))


async def start_until(stage: Stage, step: int, **fields: Any) -> tuple[str, Runtime, Pause]:
    """Let a worker execute a new run up to a point, where it stays."""
    pause = Pause(step)
    worker = stage.worker(ScriptedEngine(SCRIPT, before_step=pause))
    run_id = await stage.submit("room", **fields)
    assert await worker.wake(run_id)
    await pause.reached.wait()
    return run_id, worker, pause


async def take_over(stage: Stage) -> tuple[Runtime, ScriptedEngine]:
    """Let the leases of all workers run out, and start another one."""
    stage.clock.advance(stage.settings.lease_s + 1)
    engine = ScriptedEngine(SCRIPT)
    worker = stage.worker(engine)
    await worker.start()
    return worker, engine


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_of_a_dead_worker_is_continued(stage: Stage, step: int) -> None:
    """Nothing that is stored is done again, and nothing is missing or doubled."""
    run_id, _, _ = await start_until(stage, step)
    _, engine = await take_over(stage)
    run = await stage.ended(run_id)
    assert (run.status, run.attempts, run.crashes) == (RunStatus.COMPLETED, 2, 1)
    assert told(await stage.history(run_id)) == await uninterrupted_history()
    stored_answers = sum(step > position for position in (1, 4, 6))
    stored_results = sum(step > position for position in (2, 3, 5))
    assert engine.answered == list(range(stored_answers, 3))
    assert engine.executed == ["search", "read", "write"][stored_results:]
    assert (run.rounds, run.output) == (3, "done")


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_that_comes_back_from_the_dead_changes_nothing(
    stage: Stage, step: int
) -> None:
    """Its next write is refused; it drops the run and says so."""
    run_id, zombie, pause = await start_until(stage, step)
    await take_over(stage)
    run = await stage.ended(run_id)
    with structlog.testing.capture_logs() as entries:
        pause.released.set()
        await idle(zombie)
    assert [entry["event"] for entry in entries if entry["event"].startswith("run.")] == [
        "run.lost"
    ]
    assert await stage.ledger.get(run_id) == run
    assert told(await stage.history(run_id)) == await uninterrupted_history()


@pytest.mark.parametrize(("appends", "started"), [(1, []), (2, []), (3, ["search"])])
async def test_a_worker_that_hears_too_late_of_its_write_starts_nothing(
    appends: int, started: list[str]
) -> None:
    """It was frozen while it waited for the answer; the write went well, the run has gone on."""
    stage = Stage(heartbeat_s=0.001)
    pause = Pause(appends)
    for number in range(1, appends + 1):
        stage.faults.add("append", partial(pause, number), after=True)
    engine = ScriptedEngine(SCRIPT)
    zombie = stage.worker(engine)
    run_id = await stage.submit("room")
    assert await zombie.wake(run_id)
    await pause.reached.wait()
    await take_over(stage)
    await stage.ended(run_id)
    with structlog.testing.capture_logs() as entries:
        pause.released.set()
        await idle(zombie)
    assert engine.executed == started
    assert "run.lost" in [entry["event"] for entry in entries]
    assert told(await stage.history(run_id)) == await uninterrupted_history()
    await stage.aclose()


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_that_is_handed_over_is_continued(stage: Stage, step: int) -> None:
    """A stopping worker is no crash, and its successor goes on from the same place."""
    run_id, worker, _ = await start_until(stage, step)
    await worker.shutdown(0)
    handed_over = await stage.ledger.get(run_id)
    assert (handed_over.status, handed_over.crashes) == (RunStatus.QUEUED, 0)
    assert len(await stage.history(run_id)) == step
    run = await stage.execute(ScriptedEngine(SCRIPT), run_id)
    assert (run.status, run.attempts, run.crashes) == (RunStatus.COMPLETED, 2, 0)
    assert told(await stage.history(run_id)) == await uninterrupted_history()


@pytest.mark.parametrize("step", [1, 4, 6])
async def test_a_run_that_waits_for_a_model_is_handed_over_at_once(stage: Stage, step: int) -> None:
    """However long the grace, since a model call that has not answered can be made elsewhere."""
    run_id, worker, _ = await start_until(stage, step)
    async with asyncio.timeout(5):
        await worker.shutdown(60)
    assert (await stage.ledger.get(run_id)).status is RunStatus.QUEUED


async def test_a_running_tool_may_end_before_the_hand_over(stage: Stage) -> None:
    """Its result is stored, the tools after it end as well, and no further model is asked."""
    run_id, worker, pause = await start_until(stage, 2)
    shutdown = asyncio.create_task(worker.shutdown(60))

    async def is_stopping() -> bool:
        return not await worker.wake(await stage.submit())

    await eventually(is_stopping)
    assert (await stage.ledger.get(run_id)).status is RunStatus.RUNNING
    pause.released.set()
    await shutdown
    assert (await stage.ledger.get(run_id)).status is RunStatus.QUEUED
    assert [message.outcome for message in await stage.history(run_id)][2:] == [
        ToolOutcome.SUCCESS,
        ToolOutcome.SUCCESS,
    ]


async def test_a_tool_that_outlasts_the_grace_runs_again(stage: Stage) -> None:
    """The call stays open in the history, and the next worker executes it."""
    run_id, worker, _ = await start_until(stage, 3)
    await worker.shutdown(0.05)
    assert len(await stage.history(run_id)) == 3
    engine = ScriptedEngine(SCRIPT)
    await stage.execute(engine, run_id)
    assert engine.executed == ["read", "write"]


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_that_saves_at_its_end_starts_over(stage: Stage, step: int) -> None:
    """It has written nothing that one could go on from, and it still writes once."""
    options = RunOptions(save_on_iteration=False)
    run_id, worker, _ = await start_until(stage, step, options=options)
    await worker.shutdown(0)
    assert await stage.history(run_id) == []
    await stage.execute(ScriptedEngine(SCRIPT), run_id)
    assert told(await stage.history(run_id)) == await uninterrupted_history()
    assert len(stage.conversations.appends) == 1


async def test_a_run_that_saves_at_its_end_may_come_to_it(stage: Stage) -> None:
    """All that it did would be done again, so it gets the grace to finish."""
    options = RunOptions(save_on_iteration=False)
    run_id, worker, pause = await start_until(stage, 4, options=options)
    shutdown = asyncio.create_task(worker.shutdown(60))

    async def is_stopping() -> bool:
        return worker._is_stopping

    await eventually(is_stopping)
    pause.released.set()
    await shutdown
    assert (await stage.ledger.get(run_id)).status is RunStatus.COMPLETED


async def test_a_message_in_doubt_is_stored_before_the_hand_over(stage: Stage) -> None:
    """A write that hangs is given up, and made again: the model's answer was paid for."""
    run_id, worker, pause = await start_until(stage, 1)
    stage.faults.add("append", stage.faults.hang)
    pause.released.set()

    async def is_writing() -> bool:
        return not stage.faults.before["append"]

    await eventually(is_writing)
    await worker.shutdown(0)
    assert [message.position for message in await stage.history(run_id)] == [0, 1]
    assert (await stage.ledger.get(run_id)).status is RunStatus.QUEUED


@pytest.mark.parametrize("position", STEPS)
async def test_a_worker_that_dies_within_a_write_leaves_it_to_its_successor(
    stage: Stage, position: int
) -> None:
    """Whether the message arrived is for the store to say, and it is there once in the end."""

    async def reach() -> None:
        reached.set()
        await stage.faults.hang()

    async def go_on() -> None:
        """Let a write pass."""

    reached = asyncio.Event()
    stage.faults.add("append", *[go_on] * (position - 1), reach, after=position % 2 == 0)
    run_id = await stage.submit("room")
    assert await stage.worker(ScriptedEngine(SCRIPT)).wake(run_id)
    await reached.wait()
    await take_over(stage)
    assert (await stage.ended(run_id)).status is RunStatus.COMPLETED
    assert told(await stage.history(run_id)) == await uninterrupted_history()


@pytest.mark.parametrize(("operation", "after"), [("append", True), ("finish", False)])
async def test_a_closing_that_is_cut_off_is_continued(
    stage: Stage, operation: str, after: bool
) -> None:
    """A worker dies while it closes a failed run; its successor closes it to the same effect."""
    run_id, _, _ = await start_until(stage, 2, options=RunOptions(time_limit_s=0.2))
    stage.faults.add(operation, stage.faults.hang, after=after)

    async def is_closing() -> bool:
        faults = stage.faults.after if after else stage.faults.before
        return not faults[operation]

    await eventually(is_closing)
    _, engine = await take_over(stage)
    run = await stage.ended(run_id)
    messages = await stage.history(run_id)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert (run.error.code, engine.requests) == ("time_limit", [])
    assert [message.position for message in messages] == [0, 1, 2, 3, 4]
    assert [message.outcome for message in messages[2:]] == [
        ToolOutcome.CANCELLED,
        ToolOutcome.CANCELLED,
        None,
    ]


async def test_a_cancel_that_is_cut_off_is_continued(stage: Stage) -> None:
    """The wish is in the ledger, so it outlives the worker that was about to follow it."""
    run_id, worker, _ = await start_until(stage, 2)
    await worker.start()
    stage.faults.add("finish", stage.faults.hang)
    await stage.ledger.cancel(run_id)

    async def is_closing() -> bool:
        return not stage.faults.before["finish"]

    await eventually(is_closing)
    await worker._background.aclose()
    _, engine = await take_over(stage)
    run = await stage.ended(run_id)
    assert (run.status, engine.requests) == (RunStatus.CANCELLED, [])
    assert [message.position for message in await stage.history(run_id)] == [0, 1, 2, 3]


async def test_a_status_that_is_being_written_outlives_the_end_of_its_worker(stage: Stage) -> None:
    """A worker that is dropped in the middle of the last write waits for it a moment."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await released.wait()

    stage.faults.add("finish", hold)
    worker = stage.worker(ScriptedEngine([says("done")]))
    run_id = await stage.submit("room")
    assert await worker.wake(run_id)
    await reached.wait()
    worker._active[run_id].task.cancel()
    released.set()
    assert (await stage.ended(run_id)).status is RunStatus.COMPLETED


@pytest.mark.parametrize("damaged", [0, 1, 2, 3])
async def test_a_run_is_not_continued_without_its_own_messages(stage: Stage, damaged: int) -> None:
    """If one of them cannot be read, to go on would mean to do again what it says was done."""
    run_id, _, _ = await start_until(stage, 4)
    log = stage.conversations._open("room")
    log.entries[damaged] = replace(log.entries[damaged], stored="{")
    _, engine = await take_over(stage)
    run = await stage.ended(run_id)
    assert run.error is not None
    assert run.error.code == "history_unreadable"
    assert (engine.answered, engine.executed) == ([], [])
    history = await stage.history(run_id)
    assert history[-1].kind is MessageKind.ERROR
    assert len({message.position for message in history} | {damaged}) == len(log.entries)
    assert not open_calls(history), "what closes the history was stored, too"


async def test_a_lease_that_takes_long_holds_up_no_other_run() -> None:
    """A sweep takes all that is overdue at once."""
    stage = Stage()
    runs = [await stage.submit() for _ in range(3)]
    stage.clock.advance(stage.settings.pickup_s + 1)
    stage.faults.add("lease", stage.faults.hang)
    await stage.worker(ScriptedEngine(SCRIPT)).start()

    async def all_but_one_have_ended() -> bool:
        ended = [(await stage.ledger.get(run_id)).status.is_final for run_id in runs]
        return sum(ended) == 2

    await eventually(all_but_one_have_ended)
    await stage.aclose()
