"""Agents for tests of deploys: real model calls over HTTP, and a tool that holds a thread.

The model of the agents is a stand-in server. A run's metadata says where it is (`url`) and which of
its models to ask (`model`). Requests carry the run's id as `user`, so that the server's record of
them tells how often each run asked.

`courier` streams its answers, `mute` waits for each as a whole.
"""

import time
from typing import Final

from pydantic_ai import Agent
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.models import Model, ModelSelectionContext
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIChatModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

from agent_worker import RunInfo, serve, tool_context
from tests.agents import POLL_S, _folder, _trace, note, wait

LONGEST_S: Final = 60.0
"""For a thread that nobody permits to end: its process shall not outlive the tests for long."""


def _choose(context: ModelSelectionContext[RunInfo]) -> Model:
    metadata = context.deps.metadata
    return OpenAIChatModel(
        str(metadata["model"]),
        provider=OpenAIProvider(base_url=str(metadata["url"]), api_key="none-needed"),
        settings=OpenAIChatModelSettings(openai_user=context.deps.run_id),
    )


def hold(name: str) -> str:
    """Hold a thread until somebody permits this attempt of the run to end."""
    _trace("start", name)
    permission = _folder() / f"{name}.{tool_context().run.attempt}.permitted"
    give_up = time.monotonic() + LONGEST_S
    while not permission.exists() and time.monotonic() < give_up:
        time.sleep(POLL_S)  # another process gives it
    _trace("end", name)
    return f"held {name}"


def _agent(name: str) -> Agent[RunInfo, str]:
    return Agent(
        name=name,
        deps_type=RunInfo,
        capabilities=[SelectModel(_choose)],
        tools=[note, wait, hold],
        output_type=str,
    )


courier = serve(_agent("courier"), deps=lambda run: run)
mute = serve(_agent("mute"), deps=lambda run: run, stream_text=False)
