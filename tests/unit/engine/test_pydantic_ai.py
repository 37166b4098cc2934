"""Pydantic AI agents as engines: the contract."""

import asyncio
import dataclasses
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from agent_worker.engine.protocol import Engine, EngineError, EngineLimits
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from tests.contract.engine import EngineContract, Scene, collect, next_message, request, settle


def model_of(scene: Scene) -> FunctionModel:
    """A model that says what the scene says, with ids that repeat in every round."""

    async def answer(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        number = sum(isinstance(message, ModelResponse) for message in history)
        wanted = await scene.ask(number)
        parts: list[Any] = [
            ToolCallPart("act", f'{{"name": "{name}"}}', f"call-{index}")
            for index, name in enumerate(wanted)
        ]
        usage = RequestUsage(input_tokens=number + 1, output_tokens=1)
        return ModelResponse(parts=parts or [TextPart("done")], usage=usage)

    return FunctionModel(answer)


class TestPydanticAIEngine(EngineContract):
    """An agent with an async tool, instructions and a system prompt."""

    def engine(self, scene: Scene) -> Engine:
        agent = Agent(model_of(scene), name="scene", instructions="Act.", system_prompt="You act.")
        agent.tool_plain(name="act")(scene.act)
        return PydanticAIEngine(agent)


async def test_the_model_is_not_asked_beyond_the_limit() -> None:
    """The round that would be one too many costs nothing."""
    scene = Scene((("a",),) * 5)
    agent = Agent(model_of(scene))
    agent.tool_plain(name="act")(scene.act)
    limits = EngineLimits(max_rounds=2, model_timeout_s=10, tool_timeout_s=10, model_retries=0)

    with pytest.raises(EngineError, match="after 2 model calls"):
        await collect(PydanticAIEngine(agent).run(request(limits=limits)))

    assert scene.asked == [0, 1]


async def test_nothing_is_started_before_it_is_confirmed() -> None:
    """A worker that stood still asks first whether the run is its own: each model call and tool."""
    scene = Scene((("a", "b"),))
    confirmed = asyncio.Semaphore(0)

    async def confirm() -> None:
        await confirmed.acquire()

    asked = dataclasses.replace(request(), confirm=confirm)
    events = TestPydanticAIEngine().engine(scene).run(asked)
    answer = asyncio.create_task(next_message(events))
    await settle()
    assert scene.asked == []
    confirmed.release()
    await answer
    result = asyncio.create_task(next_message(events))
    await settle()
    assert (scene.asked, scene.started) == ([0], [])
    confirmed.release()
    await result
    assert scene.started == ["a"]
    await events.aclose()
