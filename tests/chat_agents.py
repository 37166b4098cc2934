"""Agents for tests of how runs stop, with real worker processes.

The agent `chat` has the stand-in model server as its provider, over the real OpenAI client: the
run's metadata says where it is (`url`), which of its models to ask (`model`) and which one the tool
`delegate` asks (`inner`). Requests carry the run's id in `user`, so that what a provider was sent
can be told apart there.

The agent `bare` asks that provider once, and shows it what the worker gave it, as it is: Pydantic
AI would mend a history by itself.

The agent `recite` yields the messages of a file, as far as the run's metadata says (`count`, the
input included), and then waits for ever. Its metadata names the file as well (`file`).
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from functools import cache
from pathlib import Path
from typing import Any, cast

from openai import AsyncOpenAI
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.models import Model, ModelSelectionContext
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIChatModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

from agent_worker import RunInfo, serve
from agent_worker.engine.protocol import EngineEvent, EngineRequest
from shared.message import Draft
from shared.openai_chat import from_openai, to_openai
from tests.agents import POLL_S, _folder, _permission, _trace, fail, note, wait

DWELL_S = 0.02
FOR_EVER_S = 3600.0


@cache
def _provider(url: str) -> OpenAIProvider:
    return OpenAIProvider(base_url=url, api_key="none-needed")


def _model(run: RunInfo, which: str) -> Model:
    """The stand-in's model that the run's metadata names."""
    return OpenAIChatModel(
        str(run.metadata[which]),
        provider=_provider(str(run.metadata["url"])),
        settings=OpenAIChatModelSettings(openai_user=f"{run.run_id}:{which}"),
    )


def _choose(ctx: ModelSelectionContext[RunInfo]) -> Model:
    return _model(ctx.deps, "model")


async def dwell(name: str) -> str:
    """Take a moment, so that two at a time would be seen; its end is told also if it is cut off."""
    _trace("start", name)
    try:
        await asyncio.sleep(DWELL_S)
    finally:
        _trace("end", name)
    return f"dwelt on {name}"


async def tidy(name: str) -> str:
    """Wait for ever, and clean up when that is over."""
    _trace("start", name)
    try:
        await asyncio.sleep(FOR_EVER_S)
    finally:
        await asyncio.sleep(DWELL_S)
        _trace("cleaned", name)
    return "never"


async def dawdle(name: str) -> str:
    """Wait for ever, and take as long to clean up."""
    _trace("start", name)
    try:
        await asyncio.sleep(FOR_EVER_S)
    finally:
        await asyncio.sleep(FOR_EVER_S)
    return "never"


async def defy(name: str) -> str:
    """Ignore every cancellation until somebody permits the end."""
    _trace("start", name)
    is_permitted = False
    while not is_permitted:
        try:
            await _permission(name)
            is_permitted = True
        except asyncio.CancelledError:
            _trace("ignored", name)
    _trace("end", name)
    return f"would not leave {name}"


def block(name: str) -> str:
    """Wait for permission in a thread, which nobody can cancel."""
    _trace("start", name)
    while not (_folder() / f"{name}.permitted").exists():
        time.sleep(POLL_S)  # another process gives it
    _trace("end", name)
    return f"blocked until {name}"


async def delegate(ctx: RunContext[RunInfo], name: str) -> str:
    """Ask an agent of its own."""
    _trace("start", name)
    answer = await Agent(_model(ctx.deps, "inner")).run(f"delegated: {name}")
    return answer.output


_agent = Agent(
    name="chat",
    deps_type=RunInfo,
    capabilities=[SelectModel(_choose)],
    tools=[note, wait, fail, dwell, tidy, dawdle, defy, block, delegate],
    output_type=str,
)

chat = serve(_agent, deps=lambda run: run)


@cache
def _client(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url, api_key="none-needed", max_retries=0)


async def _ask(request: EngineRequest) -> str:
    metadata = request.run.metadata
    answer = await _client(str(metadata["url"])).chat.completions.create(
        model=str(metadata["model"]),
        messages=cast(Any, to_openai([*request.history, *request.own])),
        user=f"{request.run.run_id}:model",
    )
    return answer.choices[0].message.content or ""


bare = serve(_ask, name="bare")


async def _recite(request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
    metadata = request.run.metadata
    for draft in _read(str(metadata["file"]))[len(request.own) : int(str(metadata["count"]))]:
        yield draft
    await asyncio.sleep(FOR_EVER_S)


def _read(file: str) -> list[Draft]:
    return from_openai(json.loads(Path(file).read_text()))


recite = serve(_recite, name="recite")
