"""The agents that do the work: a plain function, and Pydantic AI over two models.

The work stands in a run's metadata, so one worker process serves every size of it.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from functools import cache
from typing import Final

import httpx2
from pydantic_ai import Agent
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import ModelSelectionContext
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from agent_worker import RunInfo, serve
from agent_worker.engine.protocol import EngineEvent, EngineRequest
from benchmarks.rounds.work import ANSWER, TOOL, Work, look_up
from shared.message import Draft, MessageKind, Role, ToolCall, tool_result_draft
from tests.model_server import Answer, script_model, slow_model, tool_call

MODEL_URL: Final = "ROUNDS_MODEL_URL"
"""Environment variable: the base URL of the stand-in server, for `over_http`."""
CONNECTIONS: Final = 10_000
"""The HTTP client would otherwise stop at 1,000, and the rest would wait for each other."""
IDLE_CONNECTIONS: Final = 20
"""It looks at each idle connection with each request; hundreds would cost more than the loop."""


async def tell(request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
    """All messages of a run behind its input, or the rest of them: call, result, …, answer."""
    work = Work.from_metadata(request.run.metadata)
    for place in range(len(request.own), work.messages):
        await request.confirm()
        shelf = (place - 1) // 2
        call = ToolCall(id=f"call-{shelf}", name=TOOL, arguments=f'{{"shelf": {shelf}}}')
        if place % 2 == 0:
            yield tool_result_draft(call, look_up(shelf))
            continue
        await asyncio.sleep(work.latency_s)
        if place + 1 < work.messages:
            yield Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(call,))
        else:
            yield Draft(role=Role.ASSISTANT, content=ANSWER)


@cache
def _stub(work: Work) -> FunctionModel:
    """A model within the process: sleeps, then answers."""

    async def respond(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        done = sum(isinstance(message, ModelResponse) for message in messages)
        await asyncio.sleep(work.latency_s)
        if done + 1 < work.rounds:
            return ModelResponse(parts=[ToolCallPart(TOOL, {"shelf": done})])
        return ModelResponse(parts=[TextPart(ANSWER)])

    return FunctionModel(respond)


@cache
def _provider() -> OpenAIProvider:
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=IDLE_CONNECTIONS)
    client = httpx2.AsyncClient(limits=limits, timeout=120)
    return OpenAIProvider(base_url=os.environ[MODEL_URL], api_key="none-needed", http_client=client)


@cache
def _remote(work: Work) -> OpenAIChatModel:
    """The same model behind HTTP, as providers are."""
    calls = [Answer(calls=(tool_call(TOOL, {"shelf": shelf}),)) for shelf in range(work.rounds - 1)]
    script = script_model(*calls, Answer(ANSWER))
    return OpenAIChatModel(slow_model(work.latency_s, script), provider=_provider())


def _choose_stub(ctx: ModelSelectionContext[Work]) -> FunctionModel:
    return _stub(ctx.deps)


def _choose_remote(ctx: ModelSelectionContext[Work]) -> OpenAIChatModel:
    return _remote(ctx.deps)


stub_agent = Agent[Work, str](
    name="stub", deps_type=Work, capabilities=[SelectModel(_choose_stub)], tools=[look_up]
)
http_agent = Agent[Work, str](
    name="http", deps_type=Work, capabilities=[SelectModel(_choose_remote)], tools=[look_up]
)


def _work_of(run: RunInfo) -> Work:
    return Work.from_metadata(run.metadata)


plain = serve(tell, name="plain")
stub = serve(stub_agent, deps=_work_of, stream_text=False)
over_http = serve(http_agent, deps=_work_of, stream_text=False)
