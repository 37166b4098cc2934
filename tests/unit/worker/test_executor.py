"""How one leased run is led to its outcome."""

from collections.abc import AsyncGenerator

import pytest
import structlog

from agent_worker.context import run_info
from agent_worker.definition import AgentOptions
from agent_worker.engine.protocol import EngineError, EngineEvent, EngineRequest
from agent_worker.execution import drive, persistence
from agent_worker.execution.closing import open_calls
from shared.errors import PayloadTooLargeError, StoreUnavailableError
from shared.event import DeltaEvent
from shared.message import MessageKind, Role, ToolOutcome, Usage
from shared.run import RunOptions, RunStatus
from tests.unit.worker.scripted import ScriptedEngine, calls, says
from tests.unit.worker.stage import Pause, Stage, idle, raises, told

SCRIPT = (calls("search", "read"), calls("write"), says("done"))
"""Stored: the input, two calls and their results, a call and its result, the answer."""
LAST = 7
"""How many messages that makes."""


class Failing(ScriptedEngine):
    """Asks for tools, and raises instead of executing them."""

    def __init__(self, error: Exception) -> None:
        super().__init__(SCRIPT, before_step=self._fail)
        self._error = error

    async def _fail(self, step: int) -> None:
        if step == 2:
            raise self._error


async def test_each_message_is_stored_the_moment_it_exists(stage: Stage) -> None:
    """A reader sees a call before its tool starts, and a result before the next one starts."""
    seen: list[int] = []

    async def look(step: int) -> None:
        assert len(await stage.history(run_id)) == step
        seen.append(step)

    run_id = await stage.submit("room")
    run = await stage.execute(ScriptedEngine(SCRIPT, before_step=look), run_id)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert (run.status, run.output, run.rounds) == (RunStatus.COMPLETED, "done", 3)
    assert run.usage == Usage(input_tokens=30, requests=3)
    assert [message.position for message in await stage.history(run_id)] == list(range(LAST))


async def test_the_model_sees_the_newest_messages_and_always_the_input(stage: Stage) -> None:
    """`history_size` counts the input, which is there whatever else has to go."""
    for text in ("one", "two"):
        engine = ScriptedEngine([says(f"answer {text}")])
        await stage.execute(engine, await stage.submit("room", input=text))
    last = ScriptedEngine([says("three")])
    options = AgentOptions(history_size=3)
    await stage.execute(last, await stage.submit("room", input="three"), options=options)
    [request] = last.requests
    assert [message.text for message in request.history] == ["two", "answer two"]
    assert [message.text for message in request.own] == ["three"]


async def test_code_in_a_run_can_ask_which_run_it_is(stage: Stage) -> None:
    """`run_info()` answers inside of the engine with the ids of the lease."""

    async def look(_: int) -> None:
        info = run_info()
        assert (info.run_id, info.conversation_id, info.attempt) == (run_id, "room", 1)
        assert dict(info.metadata) == {"tenant": "acme"}

    run_id = await stage.submit("room", metadata={"tenant": "acme"})
    run = await stage.execute(ScriptedEngine([says("hi")], before_step=look), run_id)
    assert run.status is RunStatus.COMPLETED


async def test_the_log_tells_of_a_run_by_its_ids_and_never_by_its_text(stage: Stage) -> None:
    """Ids are bound once and are in each entry; what people and models write is in none."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as entries:
        run_id = await stage.submit("room", input="a secret")
        await stage.execute(ScriptedEngine([says("another secret")]), run_id)
    events = [entry for entry in entries if entry.get("run_id") == run_id]
    assert [entry["event"] for entry in events if entry["log_level"] == "info"] == [
        "run.leased",
        "run.completed",
    ]
    assert {entry["conversation_id"] for entry in events} == {"room"}
    assert all({"worker_id", "fencing_token"} <= entry.keys() for entry in events)
    assert "secret" not in str(entries)


async def test_text_deltas_travel_in_batches_and_before_their_message(stage: Stage) -> None:
    """Their texts, in order, are the start of the message at the position that they name."""
    pieces = [f"{number} " for number in range(50)]
    seen: list[str] = []

    async def look(step: int) -> None:
        if step == 2:
            seen.extend(
                event.text
                for event in await stage.ledger.list_events(run_id)
                if isinstance(event, DeltaEvent)
            )

    run_id = await stage.submit()
    engine = ScriptedEngine([says("".join(pieces))], pieces=pieces, before_step=look)
    await stage.execute(engine, run_id)
    deltas = [
        event for event in await stage.ledger.list_events(run_id) if isinstance(event, DeltaEvent)
    ]
    assert "".join(seen) == "".join(delta.text for delta in deltas) == "".join(pieces)
    assert len(deltas) <= 5
    assert {(delta.position, delta.attempt) for delta in deltas} == {(1, 1)}


async def test_a_run_that_saves_at_its_end_writes_once(stage: Stage) -> None:
    """Until its end nobody sees anything of it, then everything at once."""

    async def look(_: int) -> None:
        assert await stage.history(run_id) == []

    options = RunOptions(save_on_iteration=False)
    run_id = await stage.submit("room", options=options)
    await stage.execute(ScriptedEngine(SCRIPT, before_step=look), run_id)
    assert [len(ids) for ids in stage.conversations.appends] == [LAST]


async def test_a_run_alone_is_forgotten_with_its_record(stage: Stage) -> None:
    """Nobody clears a history that has no name, so it expires by itself."""
    run_id = await stage.submit()
    await stage.execute(ScriptedEngine([says("hi")]), run_id)
    history_id = (await stage.ledger.get(run_id)).history_id
    assert len(await stage.conversations.list_messages(history_id)) == 2
    stage.clock.advance(stage.settings.run_ttl_s + 1)
    assert await stage.conversations.list_messages(history_id) == []


async def test_the_next_run_of_a_conversation_is_rung_for(stage: Stage) -> None:
    """Who finishes a run wakes the one that waited for it; no sweep is needed."""
    worker = stage.worker(ScriptedEngine([says("hi")]))
    first, second = await stage.submit("room"), await stage.submit("room", input="again")
    await worker.wake(first)
    assert (await stage.ended(second)).status is RunStatus.COMPLETED
    assert [message.text for message in await stage.history(second)] == [
        "hello",
        "hi",
        "again",
        "hi",
    ]


# --- failures -------------------------------------------------------------------------------------


async def test_an_engines_error_fails_the_run_with_its_code(stage: Stage) -> None:
    """The code is for programs, the message for people, and the history holds a note with both."""
    run_id = await stage.submit("room")
    run = await stage.execute(Failing(EngineError("model_error", "no such model")), run_id)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert (run.error.code, run.error.message) == ("model_error", "no such model")
    note = (await stage.history(run_id))[-1]
    assert (note.role, note.kind) == (Role.SYSTEM, MessageKind.ERROR)
    assert "model_error" in note.text


async def test_a_failed_run_leaves_no_call_open(stage: Stage) -> None:
    """Calls that were never answered get a result, so that the next model accepts the history."""
    run_id = await stage.submit("room")
    run = await stage.execute(Failing(EngineError("usage_limit", "enough")), run_id)
    messages = await stage.history(run_id)
    assert open_calls(messages) == ()
    closed = [message for message in messages if message.role is Role.TOOL]
    assert [message.outcome for message in closed] == [ToolOutcome.CANCELLED] * 2
    assert "usage_limit" in closed[0].text
    assert (run.rounds, run.usage) == (1, Usage(input_tokens=10, requests=1))


async def test_any_other_exception_is_an_internal_error_with_a_traceback(stage: Stage) -> None:
    """The run says what was raised; the log says where."""
    run_id = await stage.submit()
    with structlog.testing.capture_logs() as entries:
        run = await stage.execute(Failing(ZeroDivisionError("by zero")), run_id)
    assert run.error is not None
    assert (run.error.code, run.error.message) == ("internal_error", "ZeroDivisionError: by zero")
    assert [entry["event"] for entry in entries if entry.get("exc_info")] == ["engine.broken"]


async def test_an_engine_that_raises_an_error_of_the_store_is_just_broken(stage: Stage) -> None:
    """Tools use clients of their own: what those raise says nothing about this run's store."""
    run_id = await stage.submit()
    run = await stage.execute(Failing(StoreUnavailableError("theirs")), run_id)
    assert run.error is not None
    assert run.error.code == "internal_error"


async def test_an_engine_that_ends_without_a_word_has_failed(stage: Stage) -> None:
    """Only `Finished` completes a run."""

    class Silent(ScriptedEngine):
        async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
            yield says("half an answer")

    run = await stage.execute(Silent([]), await stage.submit())
    assert run.error is not None
    assert run.error.code == "internal_error"


async def test_a_run_has_a_time_limit(stage: Stage) -> None:
    """What takes longer is stopped, and its tools are closed."""
    pause = Pause(2)
    run_id = await stage.submit("room", options=RunOptions(time_limit_s=0.05))
    run = await stage.execute(ScriptedEngine(SCRIPT, before_step=pause), run_id)
    assert run.error is not None
    assert run.error.code == "time_limit"
    assert "0.05" in run.error.message
    assert open_calls(await stage.history(run_id)) == ()


async def test_a_run_that_kills_its_workers_is_failed_in_the_end(stage: Stage) -> None:
    """The message names the number and the setting, and the engine is not called again."""
    run_id = await stage.submit("room")
    for _ in range(stage.settings.max_crashes):
        await stage.crash(run_id)
    engine = ScriptedEngine(SCRIPT)
    run = await stage.execute(engine, run_id)
    assert run.error is not None
    assert run.error.code == "worker_lost"
    assert "3 workers" in run.error.message
    assert "AGENTS_MAX_CRASHES" in run.error.message
    assert engine.requests == []
    assert [message.kind for message in await stage.history(run_id)] == [
        MessageKind.MESSAGE,
        MessageKind.ERROR,
    ]


async def test_one_crash_less_and_the_run_goes_on(stage: Stage) -> None:
    """The limit is what the setting says, not one below."""
    run_id = await stage.submit("room")
    for _ in range(stage.settings.max_crashes - 1):
        await stage.crash(run_id)
    await stage.worker(ScriptedEngine(SCRIPT)).start()  # it is a suspect, taken by a sweep only
    run = await stage.ended(run_id)
    assert (run.status, run.attempts) == (RunStatus.COMPLETED, stage.settings.max_crashes)


@pytest.mark.parametrize("save_on_iteration", [True, False])
async def test_a_message_that_the_store_refuses_fails_the_run(
    stage: Stage, save_on_iteration: bool
) -> None:
    """Accepted means finished: what cannot be stored must not keep a run from ending."""
    run_id = await stage.submit("room", options=RunOptions(save_on_iteration=save_on_iteration))

    async def spoil(step: int) -> None:
        if step == 2:
            stage.faults.add("append", raises(PayloadTooLargeError("too large")))

    run = await stage.execute(ScriptedEngine(SCRIPT, before_step=spoil), run_id)
    assert (run.status, run.output) == (RunStatus.FAILED, None)
    assert run.error is not None
    assert "too large" in run.error.message
    assert open_calls(await stage.history(run_id)) == ()


async def test_a_history_that_cannot_be_closed_does_not_keep_the_run_from_ending(
    stage: Stage,
) -> None:
    """If the store refuses even the closing, the outcome is written all the same."""
    refuse = raises(PayloadTooLargeError("too large"))
    stage.faults.add("append", refuse, refuse, refuse)
    run = await stage.execute(ScriptedEngine(SCRIPT), await stage.submit("room"))
    assert run.error is not None
    assert run.error.code == "internal_error"


@pytest.mark.parametrize("error", [None, ZeroDivisionError("while closing")])
async def test_a_run_does_not_wait_for_its_engine_to_clean_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Output that is there counts, whether the cleaning up hangs or fails."""
    monkeypatch.setattr(drive, "CLEAN_UP_S", 0.05)

    class Untidy(ScriptedEngine):
        async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
            try:
                async for event in super().run(request):
                    yield event
            finally:
                if error is not None:
                    raise error
                await stage.faults.hang()

    run = await stage.execute(Untidy([says("hi")]), await stage.submit())
    assert (run.status, run.output) == (RunStatus.COMPLETED, "hi")


# --- a store that is away -------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["append", "finish"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_store_that_is_away_for_a_moment_costs_nothing(
    stage: Stage, operation: str, after: bool
) -> None:
    """Whether the write was lost or only its answer: it is repeated and stored once."""
    away = raises(StoreUnavailableError("away"))
    stage.faults.add(operation, away, away, after=after)
    run_id = await stage.submit("room")
    run = await stage.execute(ScriptedEngine(SCRIPT), run_id)
    assert run.status is RunStatus.COMPLETED
    assert [message.position for message in await stage.history(run_id)] == list(range(LAST))


async def test_a_run_whose_store_stays_away_is_taken_up_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lets go of the run, and its own sweep finds it once the store is back."""
    monkeypatch.setattr(persistence, "STORE_PATIENCE_S", 0.05)
    away = raises(StoreUnavailableError("away"))
    stage.faults.add("append", away, away, away)
    worker = stage.worker(ScriptedEngine(SCRIPT))
    run_id = await stage.submit("room")
    with structlog.testing.capture_logs() as entries:
        await worker.wake(run_id)
        await idle(worker)
    assert "run.abandoned" in [entry["event"] for entry in entries]
    await worker.start()
    run = await stage.ended(run_id)
    assert (run.status, run.attempts) == (RunStatus.COMPLETED, 1)
    assert told(await stage.history(run_id))[-1][3] == "done"
