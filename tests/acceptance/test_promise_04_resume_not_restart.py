"""Promise 4: another worker continues from the last stored message; nothing finished is repeated.

A worker dies by SIGKILL at an exact point (`tests.kill_points`). Model calls and tool calls are
counted in files, outside of what is being tested.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from agent_client import AsyncAgentClient, Message, RunStatus
from agent_worker.testing import WorkerProcess
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play, scene, started
from tests.faulty import FaultySystem
from tests.model_server import Answer, ModelServer, script_model, tool_call
from tests.traces import arm, executions, model_calls, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0
SCRIPT = play([("note", "a"), ("wait", "gate")], [("note", "b")])
"""Positions: 0 input, 1 both calls, 2 a, 3 gate, 4 the call of b, 5 b, 6 the answer."""
ONCE = ("a", "b", "gate")


@dataclass(frozen=True)
class Point:
    """Where a worker dies, and what another one has to do again because of that."""

    name: str
    where: str
    repeated_rounds: tuple[int, ...] = ()
    repeated_tools: tuple[str, ...] = ()
    is_leased: bool = True


POINTS = [
    Point("rung, not leased", "before-lease", is_leased=False),
    Point("leased, nothing read", "before-claim"),
    Point("input stored", "after-append-0"),
    Point("model has answered, not stored", "before-append-1", repeated_rounds=(0,)),
    Point("calls stored, tools not started", "after-append-1"),
    Point("one of two parallel tools stored", "after-append-2", repeated_tools=("gate",)),
    Point("tool has ended, not stored", "before-append-5", repeated_tools=("b",)),
    Point("final answer stored, not finished", "after-append-6"),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name.replace(" ", "-"))
async def test_a_killed_run_goes_on_where_it_was(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, point: Point
) -> None:
    """What was stored is not done again; what was in flight is, under the same key."""
    conversation = f"killed:{point.where}"
    watching = asyncio.create_task(watch(faulty_client, conversation, 7))
    arm(faulty.traces, point.where)
    run = await faulty_client.submit("script", SCRIPT, conversation_id=conversation)
    if point.where == "after-append-2":  # the other tool must not have ended by then
        await eventually(lambda: one_is_dead(faulty), timeout_s=RESULT_S)
    permit(faulty.traces, "gate")
    outcome = await run.result(timeout_s=RESULT_S)
    assert (outcome.status, outcome.output, outcome.rounds) == (RunStatus.COMPLETED, "done", 3)
    assert sum(not worker.is_running for worker in faulty.workers) == 1, "the point was not reached"

    async with asyncio.timeout(RESULT_S):
        watched = await watching
    messages = await faulty_client.history(conversation)
    check_whole(messages)
    assert [message.cursor for message in watched] == [message.cursor for message in messages]

    assert rounds(faulty.traces) == sorted((0, 1, 2, *point.repeated_rounds))
    assert started(faulty.traces) == sorted((*ONCE, *point.repeated_tools))
    check_keys(faulty.traces)
    record = await run.get()
    deaths = int(point.is_leased)
    assert (record.attempts, record.crashes) == (1 + deaths, deaths)


async def test_a_model_call_in_flight_is_made_again(
    faulty_client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """Killed while the model thinks about its second answer: that one call is made again."""
    script = play([("note", "a")], [("think", "idea"), ("note", "b")])
    run = await faulty_client.submit("script", script, conversation_id="thought-twice")
    (await worker_asking(faulty, 1)).kill()
    permit(faulty.traces, "idea")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert rounds(faulty.traces) == [0, 1, 1, 2]
    assert started(faulty.traces) == ["a", "b"]
    assert positions(await faulty_client.history("thought-twice")) == list(range(6))


@pytest.mark.parametrize("where", ["model call", "after-append-1"])
async def test_a_provider_is_asked_again_for_what_it_had_not_answered(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, model_server: ModelServer, where: str
) -> None:
    """The same over HTTP: the provider itself counts, and sees no history with open calls."""
    is_in_call = where == "model call"
    answers = [
        Answer(calls=(tool_call("note", {"name": "a"}), tool_call("note", {"name": "b"}))),
        Answer("done", delay_s=1.0 if is_in_call else 0.0),
    ]
    if not is_in_call:
        arm(faulty.traces, where)
    conversation = f"remote:{where.replace(' ', '-')}"
    run = await faulty_client.submit(
        "chat",
        "hello",
        conversation_id=conversation,
        metadata=scene(model_server, script_model(*answers)),
    )
    if is_in_call:
        wait = partial(model_server.wait_until, lambda seen: seen.requests == 2)
        await asyncio.to_thread(wait)
        pid = next(entry["pid"] for entry in executions(faulty.traces))
        faulty.find(pid).kill()
    outcome = await run.result(timeout_s=RESULT_S)
    assert (outcome.status, outcome.output, outcome.rounds) == (RunStatus.COMPLETED, "done", 2)
    assert await one_is_dead(faulty), "the point was not reached"
    counts = model_server.stats()
    assert counts.requests == 2 + is_in_call
    assert (counts.broken_histories, counts.errors) == (0, 0)
    assert started(faulty.traces) == ["a", "b"]
    assert positions(await faulty_client.history(conversation)) == list(range(5))


async def test_the_next_run_is_found_though_nobody_was_rung(
    faulty_client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """Killed between the end of a run and the ring for the conversation's next one."""
    arm(faulty.traces, "after-finish")
    permit(faulty.traces, "gate")
    first = await faulty_client.submit("script", SCRIPT, conversation_id="cut-line")
    second = await faulty_client.submit("script", play([("note", "c")]), conversation_id="cut-line")
    for run in (first, second):
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
        assert (await run.get()).attempts == 1
    assert await one_is_dead(faulty), "the point was not reached"
    assert started(faulty.traces) == ["a", "b", "c", "gate"]
    history = await faulty_client.history("cut-line")
    check_whole(history[:7])
    assert positions(history[7:]) == list(range(4))


@pytest.mark.parametrize("where", ["before-append-3", "before-finish"])
async def test_a_cancel_that_is_cut_off_is_completed(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, where: str
) -> None:
    """Killed while it closes a cancelled run: the open call gets its one result all the same."""
    conversation = f"cancelled:{where}"
    run = await faulty_client.submit("script", SCRIPT, conversation_id=conversation)
    await eventually(lambda: stored(faulty_client, conversation, 3), timeout_s=RESULT_S)
    arm(faulty.traces, where)
    await run.cancel()
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    assert await one_is_dead(faulty), "the point was not reached"
    messages = await faulty_client.history(conversation)
    assert positions(messages) == [0, 1, 2, 3]
    assert [message.outcome for message in messages[2:]] == ["success", "cancelled"]
    assert started(faulty.traces) == ["a", "gate"], "the tool is not started to be stopped"
    check_keys(faulty.traces)

    after = await faulty_client.submit(
        "script", play([("note", "c")]), conversation_id=conversation
    )
    assert (await after.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED


@pytest.mark.parametrize("where", ["before-retract", "after-retract"])
async def test_a_rollback_that_is_cut_off_is_completed(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, where: str
) -> None:
    """Killed before or after it removed its messages: they are gone, and the new run goes on."""
    conversation = f"rolled-back:{where}"
    first = await faulty_client.submit("script", SCRIPT, conversation_id=conversation)
    await eventually(lambda: stored(faulty_client, conversation, 3), timeout_s=RESULT_S)
    arm(faulty.traces, where)
    second = await faulty_client.submit(
        "script", play([("note", "c")]), conversation_id=conversation, on_busy="rollback"
    )
    assert (await first.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    assert (await second.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert await one_is_dead(faulty), "the point was not reached"
    messages = await faulty_client.history(conversation)
    assert {message.run_id for message in messages} == {second.id}
    assert positions(messages) == list(range(4))
    assert started(faulty.traces) == ["a", "c", "gate"]


@pytest.mark.parametrize("where", ["before-hand_over", "after-hand_over"])
async def test_a_hand_over_that_is_cut_off_is_completed(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, where: str
) -> None:
    """Killed while it stops: before it gave the run back, or before it rang for it."""
    script = play([("note", "a")], [("think", "idea"), ("note", "b")])
    conversation = f"handed-over:{where}"
    run = await faulty_client.submit("script", script, conversation_id=conversation)
    victim = await worker_asking(faulty, 1)
    arm(faulty.traces, where)
    victim.terminate()
    await eventually(lambda: one_is_dead(faulty), timeout_s=RESULT_S)
    permit(faulty.traces, "idea")
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    record = await run.get()
    assert (record.attempts, record.crashes) == (2, int(where == "before-hand_over"))
    assert rounds(faulty.traces) == [0, 1, 1, 2]
    assert started(faulty.traces) == ["a", "b"]
    assert positions(await faulty_client.history(conversation)) == list(range(6))


@pytest.mark.parametrize(("where", "attempts"), [("before-append-0", 2), ("after-append-0", 1)])
async def test_a_run_that_saves_at_its_end_starts_over_or_is_whole(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, where: str, attempts: int
) -> None:
    """One write holds everything. Before it, all is done again, keys alike; after it, nothing."""
    conversation = f"at-its-end:{where}"
    permit(faulty.traces, "gate")
    arm(faulty.traces, where)
    run = await faulty_client.submit(
        "script", SCRIPT, conversation_id=conversation, save_on_iteration=False
    )
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert await one_is_dead(faulty), "the point was not reached"
    check_whole(await faulty_client.history(conversation))
    assert rounds(faulty.traces) == sorted((0, 1, 2) * attempts)
    assert started(faulty.traces) == sorted(ONCE * attempts)
    check_keys(faulty.traces)


async def watch(client: AsyncAgentClient, conversation_id: str, count: int) -> list[Message]:
    """The next messages of a conversation, as a watcher from its beginning sees them."""
    seen: list[Message] = []
    async for message in client.watch_conversation(conversation_id):
        seen.append(message)
        if len(seen) == count:
            break
    return seen


def check_whole(messages: list[Message]) -> None:
    """Assert that a history of one run of SCRIPT is complete, in order, and without repetition."""
    assert positions(messages) == list(range(7))
    assert len({message.id for message in messages}) == len(messages)
    results = [message.text for message in messages if message.role == "tool"]
    assert sorted(results[:2]) == ["noted a", "waited for gate"]
    assert results[2:] == ["noted b"]
    assert messages[-1].text == "done"


def check_keys(traces: Path) -> None:
    """Assert that executions of one call have one key, and different calls different ones."""
    keys = {(entry["name"], entry["key"]) for entry in executions(traces)}
    assert max(Counter(name for name, _ in keys).values()) == 1, keys
    assert max(Counter(key for _, key in keys).values()) == 1, keys


def positions(messages: list[Message]) -> list[int]:
    return [message.position for message in messages]


def rounds(traces: Path) -> list[int]:
    """The rounds for which the model was asked, sorted."""
    return sorted(call["round"] for call in model_calls(traces))


async def worker_asking(system: FaultySystem, number: int) -> WorkerProcess:
    """The worker that asks the model for this round, once one does."""

    async def pid() -> int | None:
        calls = model_calls(system.traces)
        return next((call["pid"] for call in calls if call["round"] == number), None)

    found = await eventually(pid, timeout_s=RESULT_S)
    assert found is not None
    return system.find(found)


async def one_is_dead(system: FaultySystem) -> bool:
    return any(not worker.is_running for worker in system.workers)


async def stored(client: AsyncAgentClient, conversation_id: str, count: int) -> bool:
    return len(await client.history(conversation_id)) >= count
