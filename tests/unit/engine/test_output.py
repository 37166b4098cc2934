"""What a run of a Pydantic AI agent ends with, and the text that is shown on the way."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry, PromptedOutput, RunContext, TextOutput
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    PartStartEvent,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import UsageLimits

from agent_worker.engine.protocol import EngineError, Finished, TextDelta
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from shared.message import Draft, MessageKind, Role, ToolOutcome
from tests.contract.engine import collect, messages, request
from tests.unit.engine.zoo import Notes, Script, Weather, act, call, scripted


async def output_of(agent: Agent[Any, Any]) -> Any:
    """The output of a run that comes to its end."""
    events = await collect(PydanticAIEngine(agent).run(request()))
    assert isinstance(events[-1], Finished)
    return events[-1].output


@dataclass
class Point:
    x: int
    where: bytes


async def test_text_is_the_output_as_it_is() -> None:
    """The default: the text of the last answer."""
    assert await output_of(Agent(TestModel(custom_output_text="hi"))) == "hi"


@pytest.mark.parametrize(
    ("output_type", "arguments", "expected"),
    [
        (Weather, '{"city": "Ulm", "degrees": 7}', {"city": "Ulm", "degrees": 7}),
        (Point, '{"x": 1, "where": "a"}', {"x": 1, "where": "YQ=="}),
        (list[int], '{"response": [1, 2]}', [1, 2]),
        (bool, '{"response": true}', True),
    ],
)
async def test_structured_output_is_json(output_type: Any, arguments: str, expected: Any) -> None:
    """Models, dataclasses and plain values, as a reader without the agent's types can use them."""
    model = scripted([[call("final_result", arguments)]], Notes())

    assert await output_of(Agent(model, output_type=output_type)) == expected


async def test_an_output_tool_has_a_result_like_any_other() -> None:
    """Otherwise the next run in the conversation would find a call without one."""
    model = scripted([[call("final_result", '{"city": "Ulm", "degrees": 7}')]], Notes())

    events = await collect(PydanticAIEngine(Agent(model, output_type=Weather)).run(request()))

    answer, result = messages(events)
    assert answer.kind is MessageKind.TOOL_CALL
    assert (result.tool_call_id, result.outcome) == ("c", ToolOutcome.SUCCESS)


async def test_a_retried_tool_takes_the_output_back() -> None:
    """What is stored about the output is what the model is told in the end."""
    notes = Notes()
    script: Script = [
        [call("strict", call_id="a"), call("final_result", '{"city": "U", "degrees": 7}', "b")],
        [call("final_result", '{"city": "Ulm", "degrees": 7}')],
    ]
    agent = Agent(scripted(script, notes), output_type=Weather, retries=3)

    @agent.tool_plain
    async def strict() -> str:
        raise ModelRetry("again")

    events = await collect(PydanticAIEngine(agent).run(request()))

    told = [part["content"] for part in notes.seen[1][0][-1]["parts"]]
    stored = [draft.text for draft in messages(events)[1:3]]
    assert sorted(stored) == sorted(told)
    assert any("not used as the final result" in text for text in stored)


async def test_feedback_about_an_output_is_stored_before_the_next_call() -> None:
    """People see why the model was asked again, and a take-over asks again with the same words."""
    script: Script = [[TextPart("no json")], [TextPart('{"city": "Ulm", "degrees": 7}')]]
    agent = Agent(scripted(script, Notes()), output_type=PromptedOutput(Weather), retries=2)

    events = await collect(PydanticAIEngine(agent).run(request()))

    assert [draft.role for draft in messages(events)] == [
        Role.ASSISTANT,
        Role.SYSTEM,
        Role.ASSISTANT,
    ]


async def test_too_many_wrong_outputs_end_the_run() -> None:
    """The error names what is wrong with the output."""
    agent = Agent(
        scripted([[TextPart("no")]] * 3, Notes()),
        output_type=PromptedOutput(Weather),
        retries={"output": 1},
    )

    with pytest.raises(EngineError, match="Exceeded maximum output retries") as caught:
        await output_of(agent)

    assert caught.value.code == "output_invalid"


async def test_an_output_that_is_no_json_ends_the_run() -> None:
    """Nobody could read it out of the store."""

    def make(text: str) -> object:
        return object()

    agent: Agent[None, object] = Agent(TestModel(), output_type=TextOutput(make))

    with pytest.raises(EngineError, match="cannot be written as JSON") as caught:
        await output_of(agent)

    assert caught.value.code == "output_invalid"


async def test_usage_limits_of_the_engine_end_the_run() -> None:
    """With a code of their own."""
    agent = Agent(TestModel(custom_output_text="a long answer"))
    engine = PydanticAIEngine(agent, usage_limits=UsageLimits(output_tokens_limit=1))

    with pytest.raises(EngineError, match="output_tokens_limit") as caught:
        await collect(engine.run(request()))

    assert caught.value.code == "usage_limit"


async def test_more_rounds_than_the_library_allows_by_itself() -> None:
    """Its own limit of 50 requests does not stand beside ours."""
    script: Script = [*([[call("act", call_id=f"c{n}")] for n in range(60)]), [TextPart("done")]]
    agent = Agent(scripted(script, Notes()))
    agent.tool_plain(act)
    limits = request().limits
    many = type(limits)(100, limits.model_timeout_s, limits.tool_timeout_s, 0)

    events = await collect(PydanticAIEngine(agent).run(request(limits=many)))

    assert isinstance(events[-1], Finished)
    assert events[-1].rounds == 61


async def test_exceptions_of_the_agents_own_code_are_named() -> None:
    """Instructions, hooks and dependencies may raise; the run says so."""
    agent = Agent(TestModel())

    @agent.instructions
    def fail() -> str:
        raise LookupError("no instructions")

    with pytest.raises(EngineError, match="LookupError: no instructions") as caught:
        await output_of(agent)

    assert caught.value.code == "agent_error"


async def test_a_run_that_cancels_itself_is_an_error() -> None:
    """The worker did not ask for it, so it is not a cancelled run."""
    agent: Agent[None, str] = Agent(scripted([[call("stop")]], Notes()))

    @agent.tool
    async def stop(ctx: RunContext[None]) -> str:
        ctx.cancel()
        return "stopped"

    with pytest.raises(EngineError, match="cancelled") as caught:
        await output_of(agent)

    assert caught.value.code == "agent_error"


# --- text while it is written ---------------------------------------------------------------------


def streaming(*answers: list[str | dict[int, DeltaToolCall]], plain: bool = False) -> FunctionModel:
    """A model that says its answers in pieces; with `plain` also as a whole."""

    async def stream(
        history: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        for piece in answers[sum(isinstance(message, ModelResponse) for message in history)]:
            yield piece

    async def whole(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse(parts=[TextPart("as a whole")])

    if plain:
        return FunctionModel(whole, stream_function=stream)
    return FunctionModel(stream_function=stream)


async def test_text_is_shown_while_it_is_written() -> None:
    """Pieces come before the message that they are the start of; arguments are not shown."""
    asks: list[str | dict[int, DeltaToolCall]] = [
        "Let me ",
        "see.",
        {0: DeltaToolCall(name="act", json_args='{"a"', tool_call_id="x")},
        {0: DeltaToolCall(json_args=": 1}")},
    ]
    agent = Agent(streaming(asks, ["do", "ne"]))

    @agent.tool_plain(name="act")
    async def act_on(a: int) -> str:
        return f"acted {a}"

    events = [event async for event in PydanticAIEngine(agent).run(request())]

    assert [event.text for event in events if isinstance(event, TextDelta)] == [
        "Let me ",
        "see.",
        "do",
        "ne",
    ]
    [answer, _, _] = messages(events)
    assert answer.content == "Let me see."
    assert answer.tool_calls[0].arguments == '{"a": 1}'
    first = next(place for place, event in enumerate(events) if isinstance(event, Draft))
    assert first == 2


async def test_nothing_is_shown_where_nobody_wants_it() -> None:
    """Then the model is asked in one piece."""
    agent = Agent(streaming(["a", "b"], plain=True))

    events = [event async for event in PydanticAIEngine(agent).run(request(stream_text=False))]

    assert [type(event) for event in events] == [Draft, Finished]
    assert messages(events)[0].text == "as a whole"


async def test_a_model_that_can_only_stream_is_not_shown_either() -> None:
    """It is streamed, but nobody sees the pieces."""
    events = [
        event
        async for event in PydanticAIEngine(Agent(streaming(["a", "b"]))).run(
            request(stream_text=False)
        )
    ]

    assert [type(event) for event in events] == [Draft, Finished]
    assert messages(events)[0].text == "ab"


async def test_a_model_that_cannot_stream_is_asked_in_one_piece() -> None:
    """Wanting text deltas is no reason to fail."""
    model = scripted([[ThinkingPart("hm"), TextPart("done")]], Notes())

    events = [event async for event in PydanticAIEngine(Agent(model)).run(request())]

    assert [type(event) for event in events] == [Draft, Finished]


async def test_event_handlers_of_the_agent_get_their_events() -> None:
    """An agent may watch its own stream; the answer is replayed to it."""
    seen: list[str] = []

    class Watch(AbstractCapability[Any]):
        async def on_event(self, ctx: Any, *, event: Any) -> None:
            if isinstance(event, PartStartEvent):
                seen.append(type(event.part).__name__)

    agent = Agent(scripted([[call("act")], [TextPart("done")]], Notes()), capabilities=[Watch()])
    agent.tool_plain(act)

    events = await collect(PydanticAIEngine(agent).run(request()))

    assert seen == [ToolCallPart.__name__, TextPart.__name__]
    assert [draft.role for draft in messages(events)] == [
        Role.ASSISTANT,
        Role.TOOL,
        Role.ASSISTANT,
    ]


def test_an_agent_introduces_itself() -> None:
    """Name and model, as a worker announces them."""
    info = PydanticAIEngine(Agent("openai:gpt-4o", name="support", defer_model_check=True)).info

    assert (info.name, info.model) == ("support", "openai:gpt-4o")
