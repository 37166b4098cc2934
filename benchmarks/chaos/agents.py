"""The agents that the chaos harness gives to its workers.

`scripted` plays the script in its input, `recorded` a recorded conversation against the stand-in
model server. Both write every model call and every tool call to the journal.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final

import httpx2
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters, ModelSelectionContext, StreamedResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import FunctionToolset, ToolsetTool, WrapperToolset

from agent_worker import run_info, serve, tool_context
from benchmarks.chaos.journal import journaled
from benchmarks.chaos.script import Script, call_id, find_script, mark_attempt, result_of
from benchmarks.replay_agents import (
    MODEL_URL,
    WHOLE_HISTORY,
    Scene,
    find_scene,
    recorded_toolset,
    system_prompt,
)
from tests.model_server import replay_model, slow_model

SCRIPTED: Final = "scripted"
RECORDED: Final = "recorded"
RECORDED_MODEL_S: Final = (0.1, 1.5)
"""The least and the most that a recorded model takes to answer."""
RECORDED_TOOL_S: Final = 0.6
"""All alike, since results that come in another order would not be those of the recording."""


class JournalModel(WrapperModel):
    """Writes the calls of another model to the journal."""

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        with _model_call(messages):
            return await super().request(messages, model_settings, model_request_parameters)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        with _model_call(messages):
            async with super().request_stream(
                messages, model_settings, model_request_parameters, run_context
            ) as stream:
                yield stream


class JournalToolset(WrapperToolset[Any]):
    """Writes the calls of other tools to the journal."""

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[Any],
        tool: ToolsetTool[Any],
    ) -> Any:
        context = tool_context()
        run = context.run
        with journaled("tool", run.run_id, context.idempotency_key, run.attempt):
            return await super().call_tool(name, tool_args, ctx, tool)


def _model_call(messages: list[ModelMessage]) -> Any:
    run = run_info()
    key = f"{run.run_id}.{_rounds_of_run(messages)}"
    return journaled("model", run.run_id, key, run.attempt)


def _rounds_of_run(messages: list[ModelMessage]) -> int:
    """How many answers there are behind the last input."""
    rounds = 0
    for message in messages:
        if any(isinstance(part, UserPromptPart) for part in message.parts):
            rounds = 0
        rounds += isinstance(message, ModelResponse)
    return rounds


# --- scripted -------------------------------------------------------------------------------------


async def _play(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    inputs = [
        str(part.content)
        for message in messages
        for part in message.parts
        if isinstance(part, UserPromptPart)
    ]
    script, played = find_script(inputs), _rounds_of_run(messages)
    said = TextPart(mark_attempt(script.said(played), run_info().attempt))
    if played >= len(script.rounds):
        await asyncio.sleep(script.think_s)
        return ModelResponse(parts=[said])
    await asyncio.sleep(script.rounds[played].think_s)
    return ModelResponse(parts=[said, *_calls(script, played)])


def _calls(script: Script, played: int) -> list[ToolCallPart]:
    return [
        ToolCallPart(call.tool, call.arguments, tool_call_id=call_id(played, index))
        for index, call in enumerate(script.rounds[played].calls)
    ]


_tools = FunctionToolset[None]()


@_tools.tool_plain
async def work(name: str, seconds: float) -> str:
    """Wait, as a tool that asks another service does."""
    await asyncio.sleep(seconds)
    return mark_attempt(result_of(name), run_info().attempt)


@_tools.tool_plain
def grind(name: str, seconds: float) -> str:
    """Keep a thread busy, which nobody can cancel."""
    time.sleep(seconds)
    return mark_attempt(result_of(name), run_info().attempt)


_scripted = Agent(
    JournalModel(FunctionModel(_play)), name=SCRIPTED, toolsets=[JournalToolset(_tools)]
)
scripted = serve(_scripted, stream_text=False)


# --- recorded -------------------------------------------------------------------------------------


@cache
def _provider() -> OpenAIProvider:
    client = httpx2.AsyncClient(timeout=60)
    return OpenAIProvider(base_url=os.environ[MODEL_URL], api_key="none-needed", http_client=client)


def choose_model(ctx: ModelSelectionContext[Scene]) -> JournalModel:
    """The stand-in server's model for the scene's recording."""
    seconds = round(random.uniform(*RECORDED_MODEL_S), 2)  # noqa: S311 - no secret
    name = slow_model(seconds, replay_model(ctx.deps.recording.id))
    return JournalModel(OpenAIChatModel(name, provider=_provider()))


_recorded = Agent[Scene, str](
    name=RECORDED, deps_type=Scene, capabilities=[SelectModel(choose_model)], output_type=str
)
_recorded.instructions(system_prompt)


@_recorded.toolset
def recorded_tools(ctx: RunContext[Scene]) -> JournalToolset:
    """The recording's tools, slowed down."""
    return JournalToolset(recorded_toolset(ctx.deps, pause_s=RECORDED_TOOL_S))


recorded = serve(_recorded, deps=find_scene, history_size=WHOLE_HISTORY, max_rounds=200)
