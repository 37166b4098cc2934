"""What workers do with runs and histories that they cannot open."""

import asyncio
import json
from dataclasses import replace
from typing import Any, Final

import pytest
import structlog

from agent_worker import runtime as runtime_module
from agent_worker.runtime import Runtime
from shared.backend import Backend
from shared.identifier import new_run_id, partition_of
from shared.message import Message, user_draft
from shared.run import NewRun, Run, RunStatus
from shared.sealing.backend import seal_backend
from shared.sealing.failure import KEY_TRIES
from shared.testing.waiting import eventually
from tests.unit.worker.scripted import ScriptedEngine, calls, says
from tests.unit.worker.stage import AGENT, Pause, Stage, idle, told

KEYS: Final = f"new:{'0123456789abcdef' * 4}"
OLD: Final = f"old:{'fedcba9876543210' * 4}"
SCRIPT: Final = (calls("search"), says("done"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that cannot open a run try it again soon."""
    monkeypatch.setattr(runtime_module, "AVOID_S", 0.05)


def sealed(stage: Stage, keys: str) -> Backend:
    """The stores of the stage as a process with these keys sees them."""
    raw = Backend(ledger=stage.ledger, conversations=stage.conversations)
    return seal_backend(raw, stage.settings.model_validate({"encryption_keys": keys}))


def worker_with(stage: Stage, keys: str | None, engine: ScriptedEngine) -> Runtime:
    """A worker that has these keys, or none."""
    raw = Backend(ledger=stage.ledger, conversations=stage.conversations)
    stage.backend = sealed(stage, keys) if keys else seal_backend(raw, stage.settings)
    return stage.worker(engine)


async def take_over(stage: Stage) -> ScriptedEngine:
    """Let the leases of all workers run out, and start another one, which has the keys."""
    stage.clock.advance(stage.settings.lease_s + 1)
    engine = ScriptedEngine(SCRIPT)
    await worker_with(stage, KEYS, engine).start()
    return engine


async def submit(stage: Stage, keys: str = KEYS, **fields: Any) -> str:
    """Submit a run to the room as a client with these keys."""
    asked: dict[str, Any] = {"agent": AGENT, "input": "hello"} | fields
    new = NewRun(id=new_run_id(partition_of("room")), conversation_id="room", **asked)
    return (await sealed(stage, keys).ledger.submit(new)).run.id


async def ended(stage: Stage, run_id: str) -> Run:
    """The run, once it has ended, as who has all keys reads it."""
    await stage.ended(run_id)
    return await sealed(stage, f"{KEYS},{OLD}").ledger.get(run_id)


def code_of(run: Run) -> str:
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    return run.error.code


async def say_before(stage: Stage, keys: str) -> None:
    """Let the room have a history under these keys."""
    message = Message.from_draft(user_draft("earlier"), run_id=new_run_id(0), position=0)
    await sealed(stage, keys).conversations.append("room", [message])


def break_message(stage: Stage, place: int) -> None:
    """Change what is sealed of a message in the room."""
    entries = stage.conversations._open("room").entries
    body = json.loads(entries[place].stored)
    body["sealed"]["data"] = "AAAA" + body["sealed"]["data"][4:]
    entries[place] = replace(entries[place], stored=json.dumps(body))


async def test_a_worker_with_the_keys_does_its_work(stage: Stage) -> None:
    """And the stores hold nothing that was said."""
    run_id = await submit(stage, input="hello marker")
    worker = worker_with(stage, KEYS, ScriptedEngine(SCRIPT, pieces=("marker",)))
    assert await worker.wake(run_id)
    run = await ended(stage, run_id)
    assert (run.status, run.output) == (RunStatus.COMPLETED, "done")
    assert "marker" not in repr(stage.conversations._logs) + repr(stage.ledger._runs._runs)
    assert "search ended" not in repr(stage.conversations._logs)
    history = await sealed(stage, KEYS).conversations.list_messages("room")
    assert [message.text for message in history] == ["hello marker", "", "search ended", "done"]


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_a_sealed_run_of_a_dead_worker_is_continued(stage: Stage, step: int) -> None:
    """As one in clear: nothing is done again."""
    pause = Pause(step)
    run_id = await submit(stage)
    first = worker_with(stage, KEYS, ScriptedEngine(SCRIPT, before_step=pause))
    assert await first.wake(run_id)
    await pause.reached.wait()
    engine = await take_over(stage)
    run = await ended(stage, run_id)
    assert (run.status, run.attempts) == (RunStatus.COMPLETED, 2)
    assert engine.executed == ([] if step > 2 else ["search"])
    history = await sealed(stage, KEYS).conversations.list_messages("room")
    assert [entry[0] for entry in told(history)] == [0, 1, 2, 3]


async def test_a_history_that_was_tampered_with_fails_the_run(stage: Stage) -> None:
    """At once, with a code; no model sees what is left of it, and nothing is removed."""
    await say_before(stage, KEYS)
    break_message(stage, 0)
    run_id, engine = await submit(stage), ScriptedEngine(SCRIPT)
    with structlog.testing.capture_logs() as entries:
        assert await worker_with(stage, KEYS, engine).wake(run_id)
        run = await ended(stage, run_id)
    assert code_of(run) == "seal_broken"
    assert "conversation room" in (run.error.message if run.error else "")
    assert (engine.requests, run.attempts) == ([], 1)
    assert await stage.conversations.count("room") == 1
    assert "history.sealed" in [entry["event"] for entry in entries]


async def test_a_message_in_clear_fails_the_run(stage: Stage) -> None:
    """Somebody who can write to the store would else speak to the model."""
    message = Message.from_draft(user_draft("forged"), run_id=new_run_id(0), position=0)
    await stage.conversations.append("room", [message])
    run_id, engine = await submit(stage), ScriptedEngine(SCRIPT)
    assert await worker_with(stage, KEYS, engine).wake(run_id)
    assert code_of(await ended(stage, run_id)) == "not_encrypted"
    assert engine.requests == []


async def test_a_history_under_a_missing_key_is_left_to_others(stage: Stage) -> None:
    """Who has the key takes the run; who lacks it does not take it again at once."""
    await say_before(stage, OLD)
    run_id, engine = await submit(stage), ScriptedEngine(SCRIPT)
    lacking = worker_with(stage, KEYS, ScriptedEngine(SCRIPT))
    with structlog.testing.capture_logs() as entries:
        assert await lacking.wake(run_id)
        await idle(lacking)
    assert "run.declined" in [entry["event"] for entry in entries]
    assert not await lacking.wake(run_id), "it leaves it to others for a while"
    assert await worker_with(stage, f"{KEYS},{OLD}", engine).wake(run_id)
    run = await ended(stage, run_id)
    assert (run.status, run.attempts, run.crashes) == (RunStatus.COMPLETED, 2, 0)
    assert [message.text for message in engine.requests[0].history] == ["earlier"]


@pytest.mark.parametrize("history", [True, False])
async def test_a_key_that_nobody_has_fails_the_run_in_the_end(
    stage: Stage, quick: None, history: bool
) -> None:
    """It is not given back for ever: whoever waits for it hears of it."""
    if history:
        await say_before(stage, OLD)
    engine = ScriptedEngine(SCRIPT)
    run_id = await submit(stage, KEYS if history else OLD)
    worker = worker_with(stage, KEYS, engine)
    await worker.start()
    stage.clock.advance(stage.settings.pickup_s)

    async def is_over() -> bool:
        stage.clock.advance(stage.settings.pickup_s / 10)  # what nobody rings for is found later
        return (await stage.ledger.get(run_id)).status.is_final

    await eventually(is_over)
    run = await ended(stage, run_id)
    assert code_of(run) == "key_missing"
    assert (run.attempts, run.crashes, engine.requests) == (KEY_TRIES, 0, [])


async def test_a_worker_without_keys_executes_nothing_that_is_sealed(
    stage: Stage, quick: None
) -> None:
    """It would hand an empty input to a model."""
    engine, run_id = ScriptedEngine(SCRIPT), await submit(stage)
    worker = worker_with(stage, None, engine)
    for _ in range(KEY_TRIES):
        await eventually(lambda: tried(worker, run_id))
    assert code_of(await ended(stage, run_id)) == "key_missing"
    assert engine.requests == []


async def tried(worker: Runtime, run_id: str) -> bool:
    """Let a worker try a run once more, as soon as it does."""
    before = (await worker._ledger.inner.get(run_id)).attempts  # type: ignore[attr-defined]  # sealed
    await worker.wake(run_id)
    after = (await worker._ledger.inner.get(run_id)).attempts  # type: ignore[attr-defined]  # sealed
    return bool(after > before)


async def test_a_run_that_is_to_be_cancelled_is(stage: Stage) -> None:
    """Whatever became of its history: it takes no opening to stop."""
    pause = Pause(2)
    run_id = await submit(stage)
    first = worker_with(stage, KEYS, ScriptedEngine(SCRIPT, before_step=pause))
    assert await first.wake(run_id)
    await pause.reached.wait()
    break_message(stage, 0)
    await stage.ledger.cancel(run_id)
    await take_over(stage)
    assert (await ended(stage, run_id)).status is RunStatus.CANCELLED


async def test_a_run_that_is_rolled_back_removes_what_it_cannot_read(stage: Stage) -> None:
    """Who rolls it back has asked for that."""
    pause = Pause(2)
    run_id = await submit(stage)
    first = worker_with(stage, KEYS, ScriptedEngine(SCRIPT, before_step=pause))
    assert await first.wake(run_id)
    await pause.reached.wait()
    break_message(stage, 0)
    following = await submit(stage, on_busy="rollback")
    await take_over(stage)
    assert (await ended(stage, run_id)).is_rolled_back
    assert (await ended(stage, following)).status is RunStatus.COMPLETED


async def test_a_record_that_is_tampered_with_while_it_runs_ends_the_run(stage: Stage) -> None:
    """A look at the record, as for a cancel, does not end the worker."""
    pause = Pause(2)
    run_id = await submit(stage)
    worker = worker_with(stage, KEYS, ScriptedEngine(SCRIPT, before_step=pause))
    await worker.start()
    assert await worker.wake(run_id)
    await pause.reached.wait()
    record = await stage.ledger.get(run_id)
    assert record.sealed is not None
    broken = record.sealed.model_copy(update={"data": "AAAA"})
    stage.ledger._runs.replace(record.model_copy(update={"sealed": broken}))
    await stage.ledger.cancel(run_id)
    stage.ledger.notifications.publish(stage.ledger.control_topic(worker.worker_id), run_id)
    ended_run = await stage.ended(run_id)
    assert ended_run.status.is_final
    failed = asyncio.create_task(worker.wait_failed())
    next_run = await submit(stage)
    assert await worker.wake(next_run)
    assert (await ended(stage, next_run)).status is RunStatus.COMPLETED
    assert not failed.done()
    failed.cancel()
