"""Agents that the examples run: `agent-worker start examples.agents` serves both.

`travel` is a Pydantic AI agent with tools. Without a provider's key its model is a script, which
needs no network; with one, such as OPENAI_API_KEY, it is a model of that provider. To choose
another, set AGENTS_EXAMPLE_MODEL, such as to "openai:gpt-6-luna", or to "scripted". A server of
one's own that speaks OpenAI's language is found by OPENAI_BASE_URL.
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from pydantic_ai import Agent
from pydantic_ai.models import Model

from agent_worker import serve
from agent_worker.engine.protocol import EngineRequest
from examples.travel import tools
from examples.travel.script import build_scripted_model

SCRIPTED: Final = "scripted"
PROVIDERS: Final = (
    ("OPENAI_BASE_URL", "openai", "openai-chat:gpt-6-luna"),  # few others speak "responses"
    ("OPENAI_API_KEY", "openai", "openai:gpt-6-luna"),
    ("ANTHROPIC_API_KEY", "anthropic", "anthropic:claude-haiku-5-5"),
    ("GOOGLE_API_KEY", "google.genai", "google:gemini-3.8-flash"),
    ("MISTRAL_API_KEY", "mistralai", "mistral:mistral-small-latest"),
    ("GROQ_API_KEY", "groq", "groq:openai/gpt-oss-20b"),
)
"""A variable, the library that its provider's models need, and a small model of it."""

INSTRUCTIONS: Final = """\
You plan weekend trips. Look up flights and weather at the same time, and convert a budget that is
not in euros. Book the cheapest flight that the budget allows, for all travellers; book nothing over
the budget. When somebody changes their mind, book anew and cancel the earlier booking. Answer in
three sentences at most, with the price, the booking reference and what to pack.
"""


def choose_model(environment: Mapping[str, str]) -> Model | str:
    """The model that the environment asks for, by name or by a key; else the script."""
    name = environment.get("AGENTS_EXAMPLE_MODEL") or next(
        (
            model
            for variable, library, model in PROVIDERS
            if environment.get(variable) and _is_installed(library)
        ),
        SCRIPTED,
    )
    return build_scripted_model() if name == SCRIPTED else name


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # a parent of it is missing
        return False


_travel = Agent(
    choose_model(os.environ),
    name="travel",
    description="Plans weekend trips, and books them",
    instructions=INSTRUCTIONS,
    tools=[
        tools.search_flights,
        tools.get_weather,
        tools.convert_currency,
        tools.book_flight,
        tools.cancel_booking,
    ],
)
travel = serve(_travel, max_rounds=12, tool_timeout_s=20)


async def _echo(request: EngineRequest) -> str:
    """Says what it heard: any async function can be an agent."""
    return f"You said: {request.own[0].text}"


echo = serve(_echo, name="echo")
