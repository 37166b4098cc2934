"""Long results in a run: stored whole, shown to its model short, the same after a take-over."""

from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, TextPart, ToolReturnPart

from agent_worker.engine.protocol import EngineLimits
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from shared.message import Role
from tests.contract.engine import collect, messages, request
from tests.unit.engine.zoo import Notes, Script, call, scripted

LIMITS = EngineLimits(
    max_rounds=10,
    model_timeout_s=10,
    tool_timeout_s=10,
    model_retries=0,
    shorten_results_bytes=1_000,
)
WHOLE = "the beginning " + "x" * 20_000 + " the end"
SCRIPT: Script = [[call("fetch", call_id="c1")], [call("list_all", call_id="c2")], [TextPart("ok")]]


def engine(seen: list[list[ModelMessage]]) -> PydanticAIEngine:
    """An agent whose tools say much; `seen` gets what its model was shown."""
    model = scripted(SCRIPT, Notes())
    answer = model.function
    assert answer is not None

    async def listen(history: list[ModelMessage], info: Any) -> Any:
        seen.append(history)
        made: Any = answer(history, info)
        return await made

    model.function = listen
    agent = Agent(model, name="scene")

    @agent.tool_plain
    def fetch() -> str:
        return WHOLE

    @agent.tool_plain
    def list_all() -> list[dict[str, str]]:
        return [{"name": "x" * 50}] * 200

    return PydanticAIEngine(agent)


def shown(history: list[ModelMessage]) -> list[str]:
    """The results in a request, as a provider gets them."""
    return [
        part.model_response_str()
        for message in history
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]


async def test_a_result_is_stored_whole_and_shown_short() -> None:
    """With a note that the model understands, in each request of the run."""
    seen: list[list[ModelMessage]] = []
    told = messages(await collect(engine(seen).run(request(limits=LIMITS))))
    results = [one for one in told if one.role is Role.TOOL]
    assert results[0].text == WHOLE
    assert len(results[1].model_dump_json()) > 10_000
    first, second = shown(seen[-1])
    assert first.startswith("the beginning")
    assert first.endswith("the end")
    assert "not shown here" in first
    assert second.startswith('[{"name":"xxx')
    assert max(len(first), len(second)) <= 1_000
    assert shown(seen[1]) == [first]


async def test_after_a_take_over_the_model_sees_exactly_the_same() -> None:
    """Wherever the run was cut."""
    whole: list[list[ModelMessage]] = []
    told = messages(await collect(engine(whole).run(request(limits=LIMITS))))
    for cut in range(1, 5):
        seen: list[list[ModelMessage]] = []
        await collect(engine(seen).run(request(told[:cut], limits=LIMITS)))
        assert shown(seen[-1]) == shown(whole[-1])


async def test_without_a_limit_a_result_is_shown_as_it_is() -> None:
    """The default."""
    seen: list[list[ModelMessage]] = []
    await collect(engine(seen).run(request()))
    assert shown(seen[-1])[0] == WHOLE
