"""The agent that `benchmarks.in_flight` gives to its worker: slow answers, one tool call."""

import os
from functools import cache

import httpx2
from pydantic_ai import Agent
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.models import ModelSelectionContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from agent_worker import serve
from tests.model_server import Answer, script_model, slow_model, tool_call

MODEL_URL = "IN_FLIGHT_MODEL_URL"
"""Environment variable: the base URL of the stand-in server."""
LATENCY = "IN_FLIGHT_LATENCY_S"
"""Environment variable: how long the model takes for one answer."""
CONNECTIONS = 10_000
"""The HTTP client would otherwise stop at 1,000, and the rest would wait for each other."""
IDLE_CONNECTIONS = 20
"""The HTTP client looks at each idle connection with each request; a thousand would cost more than
the agent loop."""


@cache
def _model() -> OpenAIChatModel:
    script = script_model(Answer(calls=(tool_call("look_up", {"word": "tea"}),)), Answer("Done."))
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=IDLE_CONNECTIONS)
    client = httpx2.AsyncClient(limits=limits, timeout=120)
    provider = OpenAIProvider(
        base_url=os.environ[MODEL_URL], api_key="none-needed", http_client=client
    )
    return OpenAIChatModel(slow_model(float(os.environ[LATENCY]), script), provider=provider)


def choose_model(_: ModelSelectionContext[None]) -> OpenAIChatModel:
    """The same for every run, built in the worker."""
    return _model()


agent = Agent[None, str](name="patient", capabilities=[SelectModel(choose_model)])


@agent.tool_plain
async def look_up(word: str) -> str:
    """Answer at once."""
    return f"{word} is a drink"


patient = serve(agent, stream_text=False)
