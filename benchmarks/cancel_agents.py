"""The agent that `benchmarks.cancel` gives to its workers: it waits for ever, somewhere.

The run's metadata says where (`place`): in a model call, in an async tool or in a sync one.
"""

import asyncio
import os
import time
from functools import cache

from pydantic_ai import Agent
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.models import ModelSelectionContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from agent_worker import RunInfo, serve
from tests.model_server import Answer, script_model, tool_call

MODEL_URL = "CANCEL_MODEL_URL"
"""Environment variable: the base URL of the stand-in server."""
FOR_EVER_S = 600.0
"""For a sync tool this is long, and not for ever: a thread cannot be stopped."""

MODEL_CALL, ASYNC_TOOL, SYNC_TOOL = "model call", "async tool", "sync tool"
_MODELS = {
    MODEL_CALL: "hang",
    ASYNC_TOOL: script_model(Answer(calls=(tool_call("wait"),))),
    SYNC_TOOL: script_model(Answer(calls=(tool_call("block"),))),
}


@cache
def _model(place: str) -> OpenAIChatModel:
    provider = OpenAIProvider(base_url=os.environ[MODEL_URL], api_key="none-needed")
    return OpenAIChatModel(_MODELS[place], provider=provider)


def choose_model(ctx: ModelSelectionContext[RunInfo]) -> OpenAIChatModel:
    """The one that leads to the place."""
    return _model(str(ctx.deps.metadata["place"]))


agent = Agent[RunInfo, str](
    name="stoppable", deps_type=RunInfo, capabilities=[SelectModel(choose_model)]
)


@agent.tool_plain
async def wait() -> str:
    """Wait for ever."""
    await asyncio.sleep(FOR_EVER_S)
    return "never"


@agent.tool_plain
def block() -> str:
    """Wait for ever, in a thread."""
    time.sleep(FOR_EVER_S)
    return "never"


stoppable = serve(agent, deps=lambda run: run)
