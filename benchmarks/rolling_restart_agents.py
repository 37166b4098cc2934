"""The agent of `benchmarks.rolling_restart`: slow answers, slow tools, each tool call written down.

The tools write to a file outside of everything that is being tested, so that executions can be
counted from outside.
"""

import asyncio
import json
import os
from functools import cache
from typing import Final

import httpx2
from pydantic_ai import Agent
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.models import ModelSelectionContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from agent_worker import RunInfo, serve, tool_context

MODEL_URL: Final = "ROLLING_RESTART_MODEL_URL"
"""Environment variable: the base URL of the stand-in server."""
EXECUTIONS: Final = "ROLLING_RESTART_EXECUTIONS"
"""Environment variable: the file in which tools note their starts and ends."""
CONNECTIONS: Final = 10_000
IDLE_CONNECTIONS: Final = 20


@cache
def _provider() -> OpenAIProvider:
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=IDLE_CONNECTIONS)
    client = httpx2.AsyncClient(limits=limits, timeout=120)
    return OpenAIProvider(base_url=os.environ[MODEL_URL], api_key="none-needed", http_client=client)


def choose_model(context: ModelSelectionContext[RunInfo]) -> OpenAIChatModel:
    """The run's metadata says what the stand-in answers."""
    return OpenAIChatModel(str(context.deps.metadata["model"]), provider=_provider())


agent = Agent[RunInfo, str](
    name="traveller", deps_type=RunInfo, capabilities=[SelectModel(choose_model)]
)


@agent.tool_plain
async def work(seconds: float) -> str:
    """Take so long."""
    _note("start")
    await asyncio.sleep(seconds)
    _note("end")
    return f"worked for {seconds:g} s"


def _note(event: str) -> None:
    entry = {"event": event, "key": tool_context().idempotency_key}
    with open(os.environ[EXECUTIONS], "a", encoding="utf-8") as log:  # noqa: PTH123  one write a line
        log.write(json.dumps(entry) + "\n")


traveller = serve(agent, deps=lambda run: run, stream_text=False)
