"""Promise 7, windows: what falls out of one reaches the model as a summary, made and stored once.

Real workers, which are killed; a stand-in provider, which keeps what it was sent. The model that
summarises says what it was given, so that a fact that was lost on the way would be seen.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import JsonValue

from agent_client import AsyncAgentClient, AsyncRun, Message, MessageKind, RunStatus
from shared.testing.waiting import eventually
from tests.acceptance.conftest import calling, check_closed
from tests.faulty import FaultySystem, run_faulty_system
from tests.model_server import ModelServer
from tests.model_server.chat import text_of
from tests.model_server.sight import find_sight_faults, shown
from tests.traces import arm, executions
from tests.window_agents import ABOVE

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0
FACT = "my name is Ada Byron and the code is 1815"
FULL = ABOVE // 2
"""After so many runs of two messages the next one has to summarise."""


@pytest.fixture(scope="module")
def remembering_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultySystem]:
    """Two workers with short leases that serve the agent `remember`."""
    with run_faulty_system(tmp_path_factory.mktemp("windows"), "tests.window_agents") as system:
        yield system


@pytest.fixture
def system(remembering_system: FaultySystem) -> FaultySystem:
    """Put right; at least one of the workers is ready."""
    remembering_system.put_right()
    return remembering_system


@pytest.fixture
async def remembering(system: FaultySystem) -> AsyncIterator[AsyncAgentClient]:
    """A client of that system."""
    async with AsyncAgentClient(system.settings) as client:
        yield client


def scene(server: ModelServer, model: str = "echo", summary: str = "echo") -> dict[str, JsonValue]:
    """The metadata of a run: its provider, and its models."""
    return {"url": server.base_url, "model": model, "summary": summary}


async def say(
    client: AsyncAgentClient, server: ModelServer, name: str, text: str, **models: str
) -> AsyncRun:
    """Submit a run."""
    return await client.submit(
        "remember", text, conversation_id=name, metadata=scene(server, **models)
    )


async def fill(client: AsyncAgentClient, server: ModelServer, name: str, runs: int) -> None:
    """A conversation that begins with the fact."""
    for number in range(runs):
        run = await say(client, server, name, FACT if number == 0 else f"remark {number}")
        await run.output(timeout_s=RESULT_S)


def requests_of(server: ModelServer, run: AsyncRun, what: str) -> list[list[Message]]:
    """What was sent for a run: to the model that answers, or to the one that summarises."""
    wanted = f"{run.id}:{what}"
    return [shown(each) for each in server.requests() if each["user"] == wanted]  # type: ignore[misc]


def summaries(messages: list[Message]) -> list[Message]:
    """Those among the messages that stand for others."""
    return [message for message in messages if message.kind is MessageKind.SUMMARY]


async def test_a_fact_from_the_beginning_reaches_the_model(
    remembering: AsyncAgentClient, model_server: ModelServer
) -> None:
    """Through summaries of summaries, over sixty messages, in requests of a dozen at most."""
    await fill(remembering, model_server, "facts", 30)
    run = await say(remembering, model_server, "facts", "who am I?")
    watched = [message async for message in run.watch()]
    assert await run.output(timeout_s=RESULT_S) == "who am I?"
    [request] = requests_of(model_server, run, "model")
    assert find_sight_faults(request, own_input="who am I?", size=ABOVE) == []  # type: ignore[arg-type]
    assert FACT in (text_of(request[0]) or "")  # type: ignore[arg-type]
    assert [text_of(one) for one in request].count(FACT) == 0  # type: ignore[arg-type]

    history = await remembering.history("facts", limit=200)
    check_closed(history)
    made = summaries(history)
    plain = [message.id for message in history if not message.kind.is_note]
    assert len(plain) == 62
    assert 3 <= len(made) <= 10
    for summary in made:
        assert summary.covers is not None
        assert summary.covers.first == plain[0]
        assert plain.index(summary.covers.last) + 1 == summary.covers.count
    asked = Counter(each["user"] for each in model_server.requests())
    assert sum(count for user, count in asked.items() if user.endswith(":summary")) == len(made)
    assert watched == [message for message in history if message.run_id == run.id]


@pytest.mark.parametrize(("point", "asked"), [("after-append-1", 1), ("before-append-1", 2)])
async def test_a_worker_dies_between_summary_and_answer(
    remembering: AsyncAgentClient,
    system: FaultySystem,
    model_server: ModelServer,
    point: str,
    asked: int,
) -> None:
    """Killed when the summary was stored, or just before: it is there once, and what the model is
    shown is the same as ever."""
    name = f"killed:{point}"
    await fill(remembering, model_server, name, FULL)
    assert not summaries(await remembering.history(name))
    arm(system.traces, point)
    model = calling([("note", "a")], [("note", "b")])
    runs = [
        await say(remembering, model_server, name, "remark", model=model),
        await say(remembering, model_server, name, "last", model=model),
    ]
    for run in runs:
        assert await run.output(timeout_s=RESULT_S) == "done"
    history = await remembering.history(name, limit=200)
    [summary] = [one for one in summaries(history) if one.run_id == runs[0].id]
    assert summary.position == 1
    assert [one.position for one in history if one.run_id == runs[0].id] == list(range(7))
    assert sum(not worker.is_running for worker in system.workers) == 1, "nobody was killed"
    assert len(requests_of(model_server, runs[0], "summary")) == asked
    sent = requests_of(model_server, runs[0], "model")
    assert len(sent) == 3
    assert [request[: len(sent[0])] for request in sent] == [sent[0]] * 3
    assert FACT in (text_of(sent[0][0]) or "")  # type: ignore[arg-type]
    record = await runs[0].get()
    assert (record.attempts, record.crashes) == (2, 1)
    assert record.usage.requests == 4
    check_closed(history)


async def test_a_worker_dies_between_two_rounds_behind_a_summary(
    remembering: AsyncAgentClient, system: FaultySystem, model_server: ModelServer
) -> None:
    """The model is shown the same window before and after, and tools keep their keys."""
    await fill(remembering, model_server, "rounds", FULL)
    arm(system.traces, "after-append-3")
    model = calling([("note", "a")], [("note", "b")])
    run = await say(remembering, model_server, "rounds", "remark", model=model)
    assert await run.output(timeout_s=RESULT_S) == "done"
    assert (await run.get()).crashes == 1
    sent = requests_of(model_server, run, "model")
    assert [request[: len(sent[0])] for request in sent] == [sent[0]] * 3
    assert len(requests_of(model_server, run, "summary")) == 1
    history = await remembering.history("rounds", limit=200)
    assert len(summaries(history)) == 1
    keys = {each["name"]: each["key"] for each in executions(system.traces)}
    called = [each.id for each in history if each.run_id == run.id and each.tool_calls]
    assert keys == {name: f"{place}.0" for name, place in zip("ab", called, strict=True)}


async def test_runs_that_wait_for_each_other_share_one_summary(
    remembering: AsyncAgentClient, model_server: ModelServer
) -> None:
    """Each is submitted before the one before it has begun."""
    await fill(remembering, model_server, "queue", FULL)
    before = len(summaries(await remembering.history("queue", limit=200)))
    runs = [await say(remembering, model_server, "queue", f"at once {n}") for n in range(3)]
    for run in runs:
        await run.output(timeout_s=RESULT_S)
    history = await remembering.history("queue", limit=200)
    assert len(summaries(history)) - before == 1
    said = [message.text for message in history if not message.kind.is_note]
    assert said[-6:] == [f"at once {n}" for n in range(3) for _ in range(2)]


async def test_a_run_is_cancelled_while_its_summary_is_written(
    remembering: AsyncAgentClient, model_server: ModelServer
) -> None:
    """Within a second or two, and only its input stays; the next run writes the summary."""
    await fill(remembering, model_server, "cancelled", FULL)
    before = await remembering.history("cancelled", limit=200)
    run = await say(remembering, model_server, "cancelled", "and now?", summary="hang")

    async def is_asked() -> bool:
        return bool(requests_of(model_server, run, "summary"))

    await eventually(is_asked, timeout_s=RESULT_S)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await run.cancel()
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    assert loop.time() - started < 2.0
    after = await remembering.history("cancelled", limit=200)
    assert [message.text for message in after[len(before) :]] == ["and now?"]
    following = await say(remembering, model_server, "cancelled", "go on")
    await following.output(timeout_s=RESULT_S)
    [summary] = summaries(await remembering.history("cancelled", limit=200))
    assert summary.run_id == following.id
