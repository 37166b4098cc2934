"""Tools of Pydantic AI agents: what they are told, and what becomes of what they do."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry, RunContext, Tool, ToolReturn
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.messages import BinaryContent, TextPart
from pydantic_ai.models.test import TestModel

from agent_worker.context import run_info, tool_context
from agent_worker.engine.protocol import EngineError, EngineLimits, Finished
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from shared.message import DataPart, Draft, MediaPart, ToolOutcome, user_draft
from shared.message import TextPart as SharedTextPart
from tests.contract.engine import collect, messages, next_message, request, settle, stored
from tests.unit.engine.zoo import Notes, Script, call, scripted

FAST = EngineLimits(max_rounds=10, model_timeout_s=10, tool_timeout_s=0.1, model_retries=0)


def agent_with(
    *tools: Callable[..., Any], script: Script | None = None, **options: Any
) -> Agent[Any, Any]:
    """An agent whose model calls each of the tools once and then says `done`."""
    calls = [call(tool.__name__, call_id=f"c{index}") for index, tool in enumerate(tools)]
    model = scripted(script or [calls, [TextPart("done")]], Notes())
    return Agent(model, tools=tools, **options)


async def results_of(agent: Agent[Any, Any], limits: EngineLimits = FAST) -> list[Draft]:
    """The results of all tool calls of a run that comes to its end."""
    events = await collect(PydanticAIEngine(agent).run(request(limits=limits)))
    assert isinstance(events[-1], Finished)
    return [draft for draft in messages(events) if draft.outcome is not None]


async def test_sync_tools_know_who_they_are() -> None:
    """A thread finds the run and the call as async code does."""

    def who() -> list[str]:
        context = tool_context()
        return [context.idempotency_key, context.tool_name, context.tool_call_id, run_info().run_id]

    [result] = await results_of(agent_with(who))

    assert result.content == (DataPart(value=["run-1.1.0", "who", "c0", "run-1"]),)


async def test_a_tool_knows_the_id_that_the_model_gave_it() -> None:
    """Also where Pydantic AI has to know it under another one."""
    ids: list[tuple[str, str]] = []

    async def who() -> str:
        ids.append((tool_context().tool_call_id, tool_context().idempotency_key))
        return "me"

    script: Script = [[call("who", call_id="x"), call("who", call_id="x")], [TextPart("done")]]
    results = await results_of(agent_with(who, script=script))

    assert sorted(ids) == [("x", "run-1.1.0"), ("x", "run-1.1.1")]
    assert [result.tool_call_id for result in results] == ["x", "x"]


async def test_many_sync_tools_run_side_by_side() -> None:
    """Two hundred threads that wait for each other all get a turn."""
    barrier = threading.Barrier(200)

    def meet() -> str:
        barrier.wait(timeout=20)
        return "met"

    script: Script = [[call("meet", call_id=f"c{n}") for n in range(200)], [TextPart("done")]]
    limits = EngineLimits(max_rounds=2, model_timeout_s=10, tool_timeout_s=30, model_retries=0)
    results = await results_of(agent_with(meet, script=script), limits)

    assert [result.text for result in results] == ["met"] * 200


async def test_a_sync_tool_out_of_time_is_left_behind() -> None:
    """Its thread cannot be stopped, but nobody waits for it."""
    released = threading.Event()

    def hang() -> str:
        released.wait(timeout=20)
        return "late"

    started = time.monotonic()
    [result] = await results_of(agent_with(hang))
    released.set()

    assert time.monotonic() - started < 5
    assert result.outcome is ToolOutcome.FAILED
    assert result.text == "The tool 'hang' did not end within 0.1 s."


async def test_closing_does_not_wait_for_sync_tools() -> None:
    """A worker that hands over has seconds, whatever a thread is doing."""
    running, released = threading.Event(), threading.Event()

    def hang() -> str:
        running.set()
        released.wait(timeout=20)
        return "late"

    events = PydanticAIEngine(agent_with(hang)).run(request())
    await next_message(events)
    waiting = asyncio.create_task(next_message(events))
    await asyncio.to_thread(running.wait, 10)
    before = time.monotonic()

    waiting.cancel()
    await asyncio.wait({waiting})
    await events.aclose()
    took_s = time.monotonic() - before
    released.set()

    assert took_s < 2


async def test_a_request_for_correction_is_a_retry() -> None:
    """`ModelRetry`, unknown tools and wrong arguments: the model is asked to try again."""

    async def strict(n: int) -> str:
        raise ModelRetry("another n")

    calls = [
        call("strict", '{"n": 1}', "a"),
        call("strict", '{"n": "x"}', "b"),
        call("nobody", call_id="d"),
    ]
    results = await results_of(agent_with(strict, script=[calls, [TextPart("done")]], retries=3))

    by_id = {result.tool_call_id: result for result in results}
    assert {result.outcome for result in results} == {ToolOutcome.RETRY}
    assert by_id["a"].text == "another n"
    assert isinstance(by_id["b"].content, tuple)
    assert "Unknown tool name: 'nobody'" in by_id["d"].text


async def test_too_many_corrections_end_the_run() -> None:
    """As they do in Pydantic AI; the error says which tool it was."""

    async def strict() -> str:
        raise ModelRetry("never enough")

    script: Script = [[call("strict")]] * 3
    with pytest.raises(EngineError, match="'strict' exceeded max retries") as caught:
        await results_of(agent_with(strict, script=script, retries=1))

    assert caught.value.code == "model_error"


async def raise_nothing_said() -> str:
    raise RuntimeError


async def leave() -> str:
    raise SystemExit(3)


def leave_in_a_thread() -> str:
    raise SystemExit(3)


def stop_iterating() -> str:
    raise StopIteration("end")


async def pretend_to_be_cancelled() -> str:
    raise asyncio.CancelledError


async def run_out_of_own_time() -> str:
    raise TimeoutError("upstream")


async def fail_within() -> str:
    """A sub-agent's failure is the tool's, not the run's."""
    raise UnexpectedModelBehavior("Exceeded maximum output retries (1)")


async def return_an_object() -> object:
    return object()


async def return_half_a_character() -> str:
    return "\ud83d"


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (raise_nothing_said, "RuntimeError"),
        (leave, "SystemExit: 3"),
        (leave_in_a_thread, "SystemExit: 3"),
        (stop_iterating, "RuntimeError: The function raised StopIteration('end')."),
        (pretend_to_be_cancelled, "CancelledError"),
        (run_out_of_own_time, "TimeoutError: upstream"),
        (fail_within, "UnexpectedModelBehavior: Exceeded maximum output retries (1)"),
        (return_an_object, "The tool returned a object that cannot be written as JSON"),
        (return_half_a_character, "The tool returned a str that cannot be written as JSON"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_whatever_a_tool_raises_is_a_result(tool: Callable[..., Any], said: str) -> None:
    """The model is told; the run, and the process, go on."""
    [result] = await results_of(agent_with(tool))

    assert result.outcome is ToolOutcome.FAILED
    assert result.text.startswith(said)
    assert "Traceback" not in result.text


async def test_a_long_complaint_is_cut() -> None:
    """An exception may quote a whole document; the model gets its beginning."""

    async def complain() -> str:
        raise ValueError("x" * 100_000)

    [result] = await results_of(agent_with(complain))

    assert len(result.text) == 4000


async def test_what_follows_a_result_is_stored_with_it() -> None:
    """One message holds both, so a crash cannot separate them; the model sees two parts."""

    async def shoot() -> ToolReturn[Any]:
        image = BinaryContent(b"png", media_type="image/png")
        return ToolReturn("taken", content=["see", image], metadata={"size": 3})

    [result] = await results_of(agent_with(shoot))

    assert result.content == (
        SharedTextPart(text="taken"),
        SharedTextPart(text="see"),
        MediaPart(media_type="image/png", data="cG5n"),
    )


async def test_calls_of_sub_agents_count() -> None:
    """Tokens that a tool's agent took are in the total, and in the sum over the messages."""
    inner = Agent(TestModel(custom_output_text="inner"))

    async def delegate(ctx: RunContext[Any]) -> str:
        result = await inner.run("go", usage=ctx.usage)
        return result.output

    events = await collect(PydanticAIEngine(agent_with(delegate)).run(request()))

    last = events[-1]
    assert isinstance(last, Finished)
    assert last.usage.requests == 3
    assert sum(draft.usage.requests for draft in messages(events) if draft.usage) == 3


async def test_tools_that_a_tool_calls_are_part_of_it() -> None:
    """Code that dispatches tools itself keeps the key of the call that it runs in."""
    keys: list[str] = []

    async def inner() -> str:
        keys.append(tool_context().idempotency_key)
        return "inner"

    async def outer(ctx: RunContext[Any]) -> str:
        assert ctx.tool_manager is not None
        return str(await ctx.tool_manager.handle_call(call("inner", call_id="made-up")))

    agent = agent_with(inner, outer, script=[[call("outer")], [TextPart("done")]])
    [result] = await results_of(agent)

    assert (result.text, keys) == ("inner", ["run-1.1.0"])


async def test_own_hooks_see_what_a_tool_raised() -> None:
    """An agent's capability may recover before the exception becomes a result."""

    class Recover(AbstractCapability[Any]):
        async def on_tool_execute_error(
            self, ctx: Any, *, call: Any, tool_def: Any, args: Any, error: Exception
        ) -> Any:
            return f"recovered from {type(error).__name__}"

    async def fail() -> str:
        raise KeyError("x")

    [result] = await results_of(agent_with(fail, capabilities=[Recover()]))

    assert (result.text, result.outcome) == ("recovered from KeyError", ToolOutcome.SUCCESS)


async def test_the_results_of_a_round_reach_the_model_in_the_order_of_the_calls() -> None:
    """Although they are stored as the tools ended; in this run and in the next one."""
    notes = Notes()
    slow_may_end = asyncio.Event()

    async def slow() -> str:
        await slow_may_end.wait()
        await settle()
        return "slow"

    async def fast() -> str:
        slow_may_end.set()
        return "fast"

    script: Script = [
        [call("slow", call_id="a"), call("fast", call_id="b")],
        [TextPart("x")],
        [TextPart("y")],
    ]
    engine = PydanticAIEngine(Agent(scripted(script, notes), tools=[slow, fast]))
    first = await collect(engine.run(request()))
    history = stored([user_draft("go"), *messages(first)], "run-0")
    await collect(engine.run(request(history=history)))

    assert [draft.text for draft in messages(first)[1:3]] == ["fast", "slow"]
    for number in (1, 2):
        results = notes.seen[number][0][2]["parts"]
        assert [part["content"] for part in results] == ["slow", "fast"]


async def test_stored_results_stand_whatever_became_of_the_tool() -> None:
    """A deploy between two attempts may change arguments, or remove the tool."""
    notes = Notes()
    script: Script = [
        [call("old", '{"n": 1}', "a"), call("gone", "{}", "b"), call("new", "{}", "d")],
        [TextPart("done")],
    ]

    async def old(n: int) -> str:
        return f"old {n}"

    async def gone() -> str:
        return "still here"

    async def new() -> str:
        return "new"

    before_deploy = PydanticAIEngine(Agent(scripted(script, Notes()), tools=[old, gone, new]))
    before = messages(await collect(before_deploy.run(request()), count=3))

    async def changed(m: str) -> str:
        return f"changed {m}"

    tools = [Tool(changed, name="old", max_retries=0), Tool(new)]
    after_deploy = PydanticAIEngine(Agent(scripted(script, notes), tools=tools))
    after = await collect(after_deploy.run(request(before)))

    assert [draft.text for draft in messages(after)] == ["new", "done"]
    told = [(part["content"], part["outcome"]) for part in notes.seen[1][0][-1]["parts"]]
    assert told == [("old 1", "success"), ("still here", "success"), ("new", "success")]


def test_names_of_tools_are_announced() -> None:
    """Without starting anything."""

    async def one() -> str:
        return ""

    assert PydanticAIEngine(agent_with(one)).info.tools == ("one",)
