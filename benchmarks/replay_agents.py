"""The agent that `benchmarks.replay` gives to its workers.

One agent for all recordings: a run's metadata says which recording and which of its runs to play.
The model is the real OpenAI client against the stand-in server; the tools answer as recorded.
"""

import asyncio
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.models import ModelSelectionContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import Tool
from pydantic_ai.toolsets import FunctionToolset

from agent_worker import RunInfo, serve, tool_context
from tests.model_server import RecordedTools, Recording, load_recordings, replay_model

RECORDINGS = "REPLAY_RECORDINGS"
"""Environment variable: the file with the recordings."""
MODEL_URL = "REPLAY_MODEL_URL"
"""Environment variable: the base URL of the stand-in server."""
WHOLE_HISTORY = 100_000
"""The server holds each request against the recording from its first message on."""


@dataclass(frozen=True)
class Scene:
    """What one run plays: a recording, and the run's place in it."""

    recording: Recording
    tools: RecordedTools
    run_index: int

    def round_of(self, position: int) -> int:
        """Which round of the run the assistant's message at `position` begins."""
        before = self.recording.runs()[self.run_index].expected[: position - 1]
        return sum(message["role"] == "assistant" for message in before)


@cache
def _recordings() -> dict[str, Recording]:
    return {each.id: each for each in load_recordings(Path(os.environ[RECORDINGS]))}


@cache
def _provider() -> OpenAIProvider:
    return OpenAIProvider(base_url=os.environ[MODEL_URL], api_key="none-needed")


def find_scene(run: RunInfo) -> Scene:
    """The scene that the run's metadata names."""
    recording = _recordings()[str(run.metadata["recording"])]
    return Scene(recording, RecordedTools(recording), int(str(run.metadata["run_index"])))


def choose_model(ctx: ModelSelectionContext[Scene]) -> OpenAIChatModel:
    """The stand-in server's model for the scene's recording."""
    return OpenAIChatModel(replay_model(ctx.deps.recording.id), provider=_provider())


agent = Agent[Scene, str](
    name="replay", deps_type=Scene, capabilities=[SelectModel(choose_model)], output_type=str
)


@agent.instructions
def system_prompt(ctx: RunContext[Scene]) -> str:
    """The recording's own."""
    return ctx.deps.recording.system_prompt or ""


@agent.toolset
def recorded_tools(ctx: RunContext[Scene]) -> FunctionToolset[Scene]:
    """The recording's tools, with the schemas that the recorded model was shown."""
    return recorded_toolset(ctx.deps)


def recorded_toolset(scene: Scene, *, pause_s: float = 0.0) -> FunctionToolset[Scene]:
    """The tools of a scene; each takes `pause_s` to answer."""
    return FunctionToolset(
        [_tool(scene, spec["function"], pause_s) for spec in scene.recording.tools]
    )


def _tool(scene: Scene, spec: dict[str, Any], pause_s: float) -> Tool[Scene]:
    async def answer(**arguments: Any) -> str:
        await asyncio.sleep(pause_s)
        _, position, index = tool_context().idempotency_key.rsplit(".", 2)
        return scene.tools.result(
            scene.run_index, scene.round_of(int(position)), int(index), spec["name"], arguments
        )

    return Tool.from_schema(
        answer, spec["name"], spec.get("description"), spec.get("parameters") or {"type": "object"}
    )


replay = serve(agent, deps=find_scene, history_size=WHOLE_HISTORY, max_rounds=200)
