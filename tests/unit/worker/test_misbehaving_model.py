"""Models that say what no model should, over the real client of OpenAI: the run ends with a named
error or goes on with a correction, and the conversation stays one that a provider accepts."""

import json
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import pytest
import stamina
from pydantic_ai import Agent

from agent_worker.definition import AgentOptions
from agent_worker.engine.pydantic_ai.answer_check import MAX_CALLS
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from shared.message import Message, MessageKind, Role, ToolOutcome
from shared.run import Run, RunStatus
from shared.window import pair_safe
from tests.model_server.pairing import FaultKind, find_faults
from tests.unit.engine.provider import Provider, Reply, provider, says
from tests.unit.worker.stage import Stage

MAX_ROUNDS = 4

Call = tuple[Any, Any, Any]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Pauses between tries take no time."""
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
def stage() -> Stage:
    return Stage(max_rounds=MAX_ROUNDS, max_message_bytes=2_000_000)


def answer(message: Any = None, *, finish: Any = "stop", **fields: Any) -> Reply:
    """A completion with this message."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o"}
    return Reply(body={**body, "choices": [choice], **fields})


def asks(*calls: Call, finish: str = "tool_calls", **fields: Any) -> Reply:
    """An answer that asks for tools: (id, name, arguments) of each."""
    written = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in calls
    ]
    message = {"role": "assistant", "content": None, "tool_calls": written, **fields}
    return answer(message, finish=finish)


def said(content: Any, **fields: Any) -> Reply:
    return answer({"role": "assistant", "content": content}, **fields)


def double(number: int) -> int:
    """The only tool."""
    return 2 * number


GOOD: Call = ("c1", "double", '{"number": 4}')
DEEP = "[" * 5_000 + "]" * 5_000

CORRECTED: dict[str, Sequence[Reply]] = {
    "unknown tool": [asks(("c1", "triple", "{}"))],
    "unknown tool beside a known one": [asks(("c1", "triple", "{}"), ("c2", *GOOD[1:]))],
    "tool without a name": [asks(("c1", "", "{}"))],
    "tool with a name of no end": [asks(("c1", "x" * 100_000, "{}"))],
    "half an object": [asks(("c1", "double", '{"number":'))],
    "no JSON": [asks(("c1", "double", "number=4"))],
    "no arguments": [asks(("c1", "double", ""))],
    "null arguments": [asks(("c1", "double", "null"))],
    "arguments of a wrong type": [asks(("c1", "double", '{"number": "four"}'))],
    "arguments in a list": [asks(("c1", "double", "[4]"))],
    "arguments that no parser follows": [asks(("c1", "double", f'{{"number": {DEEP}}}'))],
    "arguments that are large": [asks(("c1", "double", json.dumps({"number": "4" * 1_000_000})))],
    "a number of no end": [asks(("c1", "double", '{"number": ' + "9" * 10_000 + "}"))],
    "NaN": [asks(("c1", "double", '{"number": NaN}'))],
    "NUL in arguments": [asks(("c1", "double", '{"number": "\0"}'))],
    "half a character in arguments": [asks(("c1", "double", '{"number": "\ud83d"}'))],
    "half a character in a name": [asks(("c1", "doub\udc00le", "{}"))],
    "half a character in an id": [asks(("c\ud83d", "double", '{"number": 4}'))],
    "one id twice": [asks(GOOD, GOOD)],
    "empty ids": [asks(("", *GOOD[1:]), ("", *GOOD[1:]))],
    "one id in two rounds": [asks(GOOD), asks(GOOD)],
    "two hundred calls": [asks(*((f"c{n}", *GOOD[1:]) for n in range(200)))],
    "cut off within a call": [asks(("c1", "double", '{"numb'), finish="length")],
    "nothing": [said("")],
    "null": [said(None)],
    "another finish": [said("", finish="because")],
}
"""What a model says first; behind it, it says `done`."""

FAILED: dict[str, tuple[Sequence[Reply], str]] = {
    "tools for ever": ([asks(GOOD)] * MAX_ROUNDS, "max_rounds"),
    "unknown tools for ever": ([asks(("c1", "triple", "{}"))] * MAX_ROUNDS, "model_error"),
    "nothing for ever": ([said("")] * MAX_ROUNDS, "output_invalid"),
    "too much": ([said("x" * 2_000_001)], "answer_too_large"),
    "too many arguments": ([asks(("c1", "double", "4" * 2_000_001))], "answer_too_large"),
    "too many calls": (
        [asks(*((f"c{n}", "double", "{}") for n in range(MAX_CALLS + 1)))],
        "answer_too_large",
    ),
    "cut off at once": ([said(None, finish="length")], "model_error"),
    "filtered": ([said(None, finish="content_filter")], "model_error"),
    "no choice": ([answer(choices=[])], "model_error"),
    "no message": ([answer(None)], "model_error"),
    "no object": ([Reply(body=None)], "model_error"),
    "a list": ([Reply(body=[1, 2])], "model_error"),
    "a number as content": ([said(7)], "model_error"),
    "calls of a wrong type": (
        [answer({"role": "assistant", "content": None, "tool_calls": "all of them"})],
        "model_error",
    ),
    "a call without a function": (
        [answer({"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]})],
        "model_error",
    ),
}
"""What a model says, and the code of the run's error."""


async def execute(
    stage: Stage, one: Provider, conversation_id: str, *, stream_text: bool = False
) -> Run:
    """Let a worker execute a run of an agent with the provider's model."""
    run_id = await stage.submit(conversation_id)
    async with one.model() as model:
        engine = PydanticAIEngine(Agent(model, name="a", tools=[double]))
        worker = stage.worker(engine, options=AgentOptions(stream_text=stream_text))
        assert await worker.wake(run_id)
        return await stage.ended(run_id)


async def check_conversation(stage: Stage, run: Run, one: Provider) -> list[Message]:
    """What was stored is in order, was never sent otherwise, and can be gone on with."""
    history = await stage.history(run.id)
    visible = [message for message in history if message.kind is not MessageKind.ERROR]
    assert pair_safe(history) == visible
    async with provider(says("and on")) as following:
        assert (await execute(stage, following, "room")).status is RunStatus.COMPLETED
    for sent in [*one.requests, *following.requests]:
        faults = find_faults(sent["messages"])
        assert not [fault for fault in faults if fault.kind is not FaultKind.CALL_ID_REUSED]
    assert "Traceback" not in str(run.error)
    return history


@pytest.mark.parametrize("name", CORRECTED)
async def test_a_model_is_corrected(stage: Stage, name: str) -> None:
    """It is told what was wrong, where there is something to tell, and the run completes."""
    async with provider(*CORRECTED[name], says("done")) as one:
        run = await execute(stage, one, "room")
        assert (run.status, run.output) == (RunStatus.COMPLETED, "done"), run.error
        await check_conversation(stage, run, one)
    await stage.aclose()


@pytest.mark.parametrize("name", FAILED)
async def test_a_model_that_cannot_be_helped_fails_the_run(stage: Stage, name: str) -> None:
    """With a named error that says what happened, and a closed history."""
    replies, code = FAILED[name]
    async with provider(*replies, *replies) as one:
        run = await execute(stage, one, "room")
        assert run.status is RunStatus.FAILED
        assert run.error is not None
        assert run.error.code == code, run.error
        history = await check_conversation(stage, run, one)
    note = next(message for message in history if message.kind is MessageKind.ERROR)
    assert note.metadata["code"] == code
    await stage.aclose()


async def test_an_unknown_tool_and_bad_arguments_are_told_to_the_model(stage: Stage) -> None:
    """As results of its calls, in words, with the outcome that says so."""
    replies = [asks(("c1", "triple", "{}"), ("c2", "double", '{"number": "four"}')), says("done")]
    async with provider(*replies) as one:
        run = await execute(stage, one, "room")
        history = await check_conversation(stage, run, one)
    results = {m.tool_call_id: m for m in history if m.role is Role.TOOL}
    assert {result.outcome for result in results.values()} == {ToolOutcome.RETRY}
    told = [message for message in one.requests[1]["messages"] if message["role"] == "tool"]
    assert "triple" in told[0]["content"]
    assert "number" in told[1]["content"]
    await stage.aclose()


async def test_half_a_character_is_replaced_before_it_is_used(stage: Stage) -> None:
    """What goes back to the model is what is stored, so that a run taken over sends the same."""
    calling = asks(("c1", "double", '{"number": 4, "note": "\ud83d"}'), content="so \udc00 it is")
    async with provider(calling, says("done")) as one:
        run = await execute(stage, one, "room")
        history = await check_conversation(stage, run, one)
    assert history[1].text == "so \ufffd it is"
    sent = one.requests[1]["messages"][1]
    assert sent["content"] == history[1].text
    assert json.loads(sent["tool_calls"][0]["function"]["arguments"]) == json.loads(
        history[1].tool_calls[0].arguments
    )
    await stage.aclose()


async def test_an_answer_without_end_is_given_up_while_it_streams(stage: Stage) -> None:
    """The provider would go on for ever; the run does not wait for it."""
    pieces: Any = repeat("x" * 100_000)
    async with provider(Reply(pieces=pieces)) as one:
        run = await execute(stage, one, "room", stream_text=True)
    assert run.error is not None
    assert run.error.code == "answer_too_large"
    assert "AGENTS_MAX_MESSAGE_BYTES" in run.error.message
    await stage.aclose()
