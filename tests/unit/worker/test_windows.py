"""Windows in runs: what is written in the place of older messages, and what happens meanwhile."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
import structlog

from agent_worker.definition import AgentOptions
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.own_choice import OwnChoice
from agent_worker.window.past import Past
from agent_worker.window.protocol import Window, WindowRequest
from agent_worker.window.summarise import Summarise
from agent_worker.window.summariser import Summary
from shared.errors import NewerVersionError, StoreUnavailableError
from shared.message import Covered, Message, MessageKind, Price, Role, Usage
from shared.run import BusyPolicy, RunOptions, RunStatus
from shared.testing.waiting import eventually
from tests.unit.window.room import number, talk
from tests.unit.worker.scripted import ScriptedEngine, calls, says
from tests.unit.worker.stage import Pause, Stage, idle, told

SCRIPT = (calls("search"), says("done"))
"""Stored: the input, a summary, a call and its result, the answer."""
TOOK = Usage(input_tokens=100, output_tokens=7, requests=1)
COST = Price(model="small", known_cost=Decimal("0.02"))


class Writer:
    """A model that summarises. It can be stopped on its way, and can fail."""

    def __init__(self, *, stops: int = 0, error: Exception | None = None) -> None:
        self.asked: list[tuple[str | None, list[str]]] = []
        self.reached = asyncio.Event()
        self._stops = stops
        self._error = error

    async def __call__(self, so_far: str | None, messages: Sequence[Message]) -> Summary:
        self.asked.append((so_far, [message.text for message in messages]))
        if self._error is not None:
            raise self._error
        if self._stops:
            self._stops -= 1
            self.reached.set()
            await asyncio.Event().wait()
        return Summary(f"{so_far or ''}<{messages[0].text}..{messages[-1].text}>", TOOK, COST)


def window(writer: Writer, **options: Any) -> AgentOptions:
    """Summarise above eight messages, down to four."""

    async def write(so_far: str | None, messages: Sequence[Message]) -> Summary:
        return await writer(so_far, messages)

    cut: dict[str, Any] = {"above": LastMessages(8), "keep": LastMessages(4)} | options
    return AgentOptions(window=Summarise(write, **cut))


async def fill(stage: Stage, runs: int = 5) -> None:
    """Ten messages in the room."""
    await stage.conversations.append("room", number(talk(runs, words=0), "past"))


async def start_until(
    stage: Stage, agent: AgentOptions, step: int, **fields: Any
) -> tuple[str, Pause]:
    """Let a worker execute a run up to where its engine waits with so many messages."""
    pause = Pause(step)
    run_id = await stage.submit("room", **fields)
    worker = stage.worker(ScriptedEngine(SCRIPT, before_step=pause), options=agent)
    assert await worker.wake(run_id)
    await pause.reached.wait()
    return run_id, pause


async def take_over(stage: Stage, options: AgentOptions) -> ScriptedEngine:
    """Let the leases of all workers run out, and start another one."""
    stage.clock.advance(stage.settings.lease_s + 1)
    engine = ScriptedEngine(SCRIPT)
    await stage.worker(engine, options=options).start()
    return engine


def summaries(messages: Sequence[Message]) -> list[Message]:
    """Those among the messages that stand for others."""
    return [message for message in messages if message.kind is MessageKind.SUMMARY]


async def test_what_falls_out_is_summarised_and_stored_behind_the_input(stage: Stage) -> None:
    """With what it covers and what it took; the engine sees it first, as a user's message."""
    await fill(stage)
    engine, writer = ScriptedEngine(SCRIPT), Writer()
    run_id = await stage.submit("room", input="and now?")
    run = await stage.execute(engine, run_id, options=window(writer))

    own = [message for message in await stage.history(run_id) if message.run_id == run_id]
    assert [message.kind for message in own] == [
        MessageKind.MESSAGE,
        MessageKind.SUMMARY,
        MessageKind.TOOL_CALL,
        MessageKind.TOOL_RESULT,
        MessageKind.MESSAGE,
    ]
    [summary] = summaries(own)
    assert summary.covers == Covered(first="past.0", last="past.6", count=7)
    assert (summary.text, summary.usage) == ("<question 0..question 3>", TOOK)
    assert summary.price == COST
    assert summary.waited_ms is not None
    [small] = [each for each in run.spending.models if each.model == "small"]
    assert (small.usage, small.cost) == (TOOK, COST.known_cost)
    assert writer.asked == [(None, [message.text for message in talk(4, words=0)[:7]])]

    [request] = engine.requests
    first, *rest = request.history
    assert (first.role, first.kind) == (Role.USER, MessageKind.MESSAGE)
    assert summary.text in first.text
    assert "7 messages" in first.text
    assert [message.id for message in rest] == ["past.7", "past.8", "past.9"]
    assert [message.text for message in request.own] == ["and now?"]
    assert request.next_position == 2
    assert run.usage == Usage(input_tokens=20, requests=2) + TOOK
    assert run.rounds == 2


async def test_the_next_runs_read_it_and_write_none_until_enough_has_come(stage: Stage) -> None:
    """A summary of the summary follows only when the window is full again, and covers both."""
    await fill(stage)
    writer = Writer()
    engine = ScriptedEngine([says("and so on")])
    for text in ("first", "second", "third", "fourth"):
        run_id = await stage.submit("room", input=text)
        await stage.execute(engine, run_id, options=window(writer))
    messages = await stage.conversations.list_messages("room")
    older, newer = summaries(messages)
    assert [so_far for so_far, _ in writer.asked] == [None, older.text]
    assert older.covers is not None
    assert newer.covers is not None
    assert newer.covers.first == older.covers.first == "past.0"
    _, added = writer.asked[1]
    assert newer.covers.count == older.covers.count + len(added)
    covered = [message.id for message in messages if not message.kind.is_note]
    assert covered.index(newer.covers.last) + 1 == newer.covers.count
    assert newer.text.startswith(older.text)
    request = engine.requests[-1]
    assert [one.id for one in request.history[1:]] == covered[newer.covers.count : -2]


@pytest.mark.parametrize("step", range(1, 5))
@pytest.mark.parametrize("save_on_iteration", [True, False])
async def test_a_run_taken_over_behind_its_summary_sees_what_it_saw(
    stage: Stage, step: int, save_on_iteration: bool
) -> None:
    """Nobody is asked for a second summary if the first is stored, and positions stay the same."""
    await fill(stage)
    writer = Writer()
    options = RunOptions(save_on_iteration=save_on_iteration)
    run_id, _ = await start_until(stage, window(writer), step, options=options)
    stored = len([one for one in await stage.history(run_id) if one.run_id == run_id])
    assert stored == (step + 1 if save_on_iteration else 0)
    engine = await take_over(stage, window(writer))
    run = await stage.ended(run_id)
    messages = await stage.history(run_id)
    assert len(writer.asked) == (1 if save_on_iteration else 2)
    assert len(summaries(messages)) == 1
    assert [one.position for one in messages if one.run_id == run_id] == list(range(5))
    assert (run.status, run.attempts) == (RunStatus.COMPLETED, 2)
    assert run.usage == Usage(input_tokens=20, requests=2) + TOOK
    [request] = engine.requests
    assert [message.id for message in request.history] == [
        "summary:past.0:past.6",
        "past.7",
        "past.8",
        "past.9",
    ]
    assert request.next_position == (step + 1 if save_on_iteration else 2)


async def test_a_run_that_began_without_a_summary_goes_on_without(stage: Stage) -> None:
    """Its first model call was made with a plain cut; a later one must not see something else."""
    await fill(stage)
    broken = window(Writer(error=ConnectionError("down")))
    run_id, _ = await start_until(stage, broken, 2)
    writer = Writer()
    engine = await take_over(stage, window(writer))
    assert (await stage.ended(run_id)).status is RunStatus.COMPLETED
    assert writer.asked == []
    assert summaries(await stage.history(run_id)) == []
    [request] = engine.requests
    assert [message.id for message in request.history] == [f"past.{n}" for n in range(3, 10)]


async def test_a_summary_that_was_cut_off_is_made_again(stage: Stage) -> None:
    """A worker dies while the model writes it: nothing of it is stored, and the next one asks."""
    await fill(stage)
    writer = Writer(stops=1)
    run_id = await stage.submit("room")
    assert await stage.worker(ScriptedEngine(SCRIPT), options=window(writer)).wake(run_id)
    await writer.reached.wait()
    assert [one.kind for one in await stage.history(run_id)][10:] == [MessageKind.MESSAGE]
    await take_over(stage, window(writer))
    assert (await stage.ended(run_id)).status is RunStatus.COMPLETED
    assert len(writer.asked) == 2
    assert len(summaries(await stage.history(run_id))) == 1


async def test_a_zombie_cannot_store_its_summary(stage: Stage) -> None:
    """It was frozen while it summarised, and another worker has since written one."""
    await fill(stage)
    slow = asyncio.Event()
    begun = asyncio.Event()

    async def write(so_far: str | None, messages: Sequence[Message]) -> str:
        begun.set()
        await slow.wait()
        return "of a zombie"

    cut = {"above": LastMessages(8), "keep": LastMessages(4)}
    zombie = stage.worker(
        ScriptedEngine(SCRIPT),
        options=AgentOptions(window=Summarise(write, **cut)),  # type: ignore[arg-type]
    )
    run_id = await stage.submit("room")
    assert await zombie.wake(run_id)
    await begun.wait()
    await take_over(stage, window(Writer()))
    await stage.ended(run_id)
    before = told(await stage.history(run_id))
    slow.set()
    await idle(zombie)
    assert told(await stage.history(run_id)) == before
    [summary] = summaries(await stage.history(run_id))
    assert summary.text != "of a zombie"


@pytest.mark.parametrize("save_on_iteration", [True, False])
async def test_a_run_is_cancelled_while_it_summarises(
    stage: Stage, save_on_iteration: bool
) -> None:
    """Within a second, and what it leaves is its input."""
    await fill(stage)
    writer = Writer(stops=1)
    worker = stage.worker(ScriptedEngine(SCRIPT), options=window(writer))
    await worker.start()
    options = RunOptions(save_on_iteration=save_on_iteration)
    run_id = await stage.submit("room", options=options)
    await worker.wake(run_id)
    await writer.reached.wait()
    async with asyncio.timeout(1.0):
        await stage.ledger.cancel(run_id)
        run = await stage.ended(run_id)
    assert run.status is RunStatus.CANCELLED
    assert len(await stage.history(run_id)) == 11


async def test_a_run_is_handed_over_while_it_summarises(stage: Stage) -> None:
    """A worker that leaves does not wait for a model."""
    await fill(stage)
    writer = Writer(stops=1)
    worker = stage.worker(ScriptedEngine(SCRIPT), options=window(writer))
    run_id = await stage.submit("room")
    assert await worker.wake(run_id)
    await writer.reached.wait()
    async with asyncio.timeout(1.0):
        await worker.shutdown(30)
    assert (await stage.ledger.get(run_id)).status is RunStatus.QUEUED
    run = await stage.execute(ScriptedEngine(SCRIPT), run_id, options=window(writer))
    assert (run.status, run.crashes) == (RunStatus.COMPLETED, 0)


async def test_a_summary_goes_with_the_run_that_is_rolled_back(stage: Stage) -> None:
    """The run that rolled it back writes its own."""
    await fill(stage)
    writer = Writer()
    options = window(writer)
    pause = Pause(2)
    worker = stage.worker(ScriptedEngine(SCRIPT, before_step=pause), options=options)
    await worker.start()
    first = await stage.submit("room")
    await worker.wake(first)
    await pause.reached.wait()
    assert len(summaries(await stage.history(first))) == 1
    second = await stage.submit("room", on_busy=BusyPolicy.ROLLBACK)
    await stage.ended(first)
    await stage.ended(second)
    [summary] = summaries(await stage.history(second))
    assert summary.run_id == second
    assert len(writer.asked) == 2


async def test_two_runs_in_a_row_write_one_summary(stage: Stage) -> None:
    """The second one waits for the first, and finds its summary."""
    await fill(stage, 7)
    writer = Writer()
    options = window(writer, above=LastMessages(12))
    worker = stage.worker(ScriptedEngine(SCRIPT), options=options)
    await worker.start()
    both = [await stage.submit("room"), await stage.submit("room")]
    for run_id in both:
        await worker.wake(run_id)
    for run_id in both:
        assert (await stage.ended(run_id)).status is RunStatus.COMPLETED
    [summary] = summaries(await stage.history(both[0]))
    assert summary.run_id == both[0]
    assert len(writer.asked) == 1


async def test_what_is_appended_while_a_summary_is_written_is_not_lost(stage: Stage) -> None:
    """Whoever imports messages holds no lease. They stand behind what the summary covers."""
    await fill(stage, 7)
    gate, begun = asyncio.Event(), asyncio.Event()

    async def write(so_far: str | None, messages: Sequence[Message]) -> str:
        begun.set()
        await gate.wait()
        return "so far"

    policy = Summarise(write, above=LastMessages(12), keep=LastMessages(4))
    options = AgentOptions(window=policy)
    first = await stage.submit("room")
    assert await stage.worker(ScriptedEngine([says("hi")]), options=options).wake(first)
    await begun.wait()
    await stage.conversations.append("room", number(talk(1, words=0), "import"))
    gate.set()
    await stage.ended(first)
    engine = ScriptedEngine([says("hi")])
    await stage.execute(engine, await stage.submit("room"), options=options)
    [request] = engine.requests
    [summary] = summaries(await stage.conversations.list_messages("room"))
    assert summary.covers == Covered(first="past.0", last="past.10", count=11)
    assert [message.id for message in request.history[1:]] == [
        *("past.11", "past.12", "past.13"),
        f"{first}.0",
        *("import.0", "import.1"),
        f"{first}.2",
    ]


async def test_without_a_summary_the_window_is_cut_and_the_run_goes_on(stage: Stage) -> None:
    """The log says what went wrong, not what was said; the next run tries again."""
    await fill(stage)
    writer = Writer(error=ConnectionError("a secret"))
    engine = ScriptedEngine([says("hi")])
    with structlog.testing.capture_logs() as entries:
        run = await stage.execute(engine, await stage.submit("room"), options=window(writer))
    assert run.status is RunStatus.COMPLETED
    [request] = engine.requests
    assert len(request.history) == 7
    [failed] = [entry for entry in entries if entry["event"] == "summary.failed"]
    assert failed["error"] == "ConnectionError"
    assert "secret" not in str(entries)
    await stage.execute(engine, await stage.submit("room"), options=window(Writer()))
    assert len(summaries(await stage.conversations.list_messages("room"))) == 1


async def test_a_summary_that_is_required_fails_the_run(stage: Stage) -> None:
    """Who would rather have no answer than one without memory asks for that."""
    await fill(stage)
    options = window(Writer(error=ConnectionError("down")), required=True)
    run = await stage.execute(ScriptedEngine(SCRIPT), await stage.submit("room"), options=options)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error.code == "summary_failed"
    assert "ConnectionError: down" in run.error.message


async def test_a_summary_that_takes_too_long_is_done_without(stage: Stage) -> None:
    """Its own limit is not the run's."""
    await fill(stage)
    options = window(Writer(stops=1), timeout_s=0.02)
    run = await stage.execute(ScriptedEngine(SCRIPT), await stage.submit("room"), options=options)
    assert run.status is RunStatus.COMPLETED


async def test_the_time_of_a_run_counts_while_it_summarises(stage: Stage) -> None:
    """Its time limit is for all that it does."""
    await fill(stage)
    run_id = await stage.submit("room", options=RunOptions(time_limit_s=0.05))
    run = await stage.execute(ScriptedEngine(SCRIPT), run_id, options=window(Writer(stops=1)))
    assert run.error is not None
    assert run.error.code == "time_limit"


async def test_what_a_window_took_is_counted_though_the_run_fails(stage: Stage) -> None:
    """The summary was paid for."""
    await fill(stage)
    engine = ScriptedEngine(())  # it has no answer, and breaks
    run = await stage.execute(engine, await stage.submit("room"), options=window(Writer()))
    assert run.status is RunStatus.FAILED
    assert run.usage == TOOK


def raising(messages: Sequence[Message]) -> Sequence[Message]:
    """A function with a mistake."""
    raise LookupError("no such topic")


def exiting(messages: Sequence[Message]) -> Sequence[Message]:
    """A function that means to end the process."""
    raise SystemExit(3)


async def making_up(messages: Sequence[Message]) -> Sequence[Message]:
    """A function that puts words into somebody's mouth."""
    return [*messages, messages[-1].model_copy(update={"id": "made-up"})]


@pytest.mark.parametrize(
    ("choose", "code", "said"),
    [
        (raising, "window_failed", "raising raised LookupError: no such topic"),
        (exiting, "window_failed", "SystemExit: 3"),
        (making_up, "window_invalid", "'made-up' (assistant) is none that it was given"),
        (lambda messages: messages[::-1], "window_invalid", "there twice, or behind a later one"),
        (lambda messages: [messages[0]] * 2, "window_invalid", "there twice"),
        (lambda messages: None, "window_invalid", "NoneType"),
        (lambda messages: ["hi"], "window_invalid", "a str among the messages"),
    ],
)
async def test_a_function_that_fails_fails_the_run(
    stage: Stage, choose: Any, code: str, said: str
) -> None:
    """With a code that says whose fault it was; no model is asked."""
    await fill(stage)
    engine = ScriptedEngine(SCRIPT)
    options = AgentOptions(window=OwnChoice(choose))
    run = await stage.execute(engine, await stage.submit("room"), options=options)
    assert run.error is not None
    assert run.error.code == code
    assert said in run.error.message
    assert engine.requests == []


class Broken:
    """A policy that goes wrong in a way of its own."""

    name = "broken"

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def first_read(self, history_size: int) -> int:
        return history_size

    async def build(self, past: Past, request: WindowRequest) -> Window:
        raise self._error


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(1)], ids=str)
async def test_a_policy_that_breaks_fails_the_run(stage: Stage, error: BaseException) -> None:
    """And neither its worker nor the runs beside it."""
    options = AgentOptions(window=Broken(error))
    run = await stage.execute(ScriptedEngine(SCRIPT), await stage.submit("room"), options=options)
    assert run.error is not None
    assert run.error.code == "window_failed"


async def test_a_conversation_that_needs_a_newer_worker_waits_for_one(stage: Stage) -> None:
    """Also where the message that says so lies further back than the first look."""
    error = NewerVersionError("newer", 99)
    run_id = await stage.submit("room")
    worker = stage.worker(ScriptedEngine(SCRIPT), options=AgentOptions(window=Broken(error)))
    assert await worker.wake(run_id)
    await idle(worker)
    run = await stage.ledger.get(run_id)
    assert (run.status, run.needs_version) == (RunStatus.QUEUED, 99)


async def test_a_store_that_is_away_while_a_window_is_read_costs_no_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is asked for again."""
    await fill(stage, 60)
    read = stage.conversations.list_messages
    asked = 0

    async def flaky(*args: Any, **part: Any) -> list[Message]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreUnavailableError("away")
        return await read(*args, **part)

    run_id = await stage.submit("room")
    monkeypatch.setattr(stage.conversations, "list_messages", flaky)
    engine = ScriptedEngine(SCRIPT)
    options = AgentOptions(window=OwnChoice(lambda messages: messages, read=100))
    assert await stage.worker(engine, options=options).wake(run_id)

    async def probe() -> bool:
        return (await stage.ledger.get(run_id)).status is RunStatus.COMPLETED

    await eventually(probe)
    assert len(engine.requests[0].history) == 100


async def test_long_results_of_earlier_runs_are_shown_short_and_kept_whole(stage: Stage) -> None:
    """The history has all of it, and the model its beginning and end."""
    whole = "the beginning " + "x" * 50_000 + " the end"

    async def search(name: str) -> str:
        return whole

    options = AgentOptions(shorten_results_bytes=2_000)
    engine = ScriptedEngine(SCRIPT, tools={"search": search})
    await stage.execute(engine, await stage.submit("room"), options=options)
    following = ScriptedEngine([says("hi")])
    run_id = await stage.submit("room")
    await stage.execute(following, run_id, options=options)
    [result] = [one for one in following.requests[0].history if one.role is Role.TOOL]
    assert len(result.text.encode()) <= 2_000
    assert result.text.startswith("the beginning")
    assert result.text.endswith("the end")
    assert "not shown here" in result.text
    assert whole in [message.text for message in await stage.history(run_id)]


async def test_the_log_says_what_a_window_holds_and_how_it_was_counted(stage: Stage) -> None:
    """Numbers, and nothing that anybody said."""
    await fill(stage)
    with structlog.testing.capture_logs() as entries:
        run_id = await stage.submit("room", input="a secret")
        await stage.execute(ScriptedEngine([says("hi")]), run_id, options=window(Writer()))
    [built] = [entry for entry in entries if entry["event"] == "window.built"]
    assert (built["policy"], built["messages"], built["dropped"]) == ("summarise", 4, 6)
    [made] = [entry for entry in entries if entry["event"] == "summary.made"]
    assert (made["messages"], made["tokens"]) == (7, 107)
    assert "secret" not in str(entries)
    assert "question" not in str(entries)
