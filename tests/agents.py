"""Agents for tests with real worker processes.

The agent `script` plays what its input says: JSON, a list of rounds, each a list of tool calls
`[name, argument]`. Behind the last round it answers `done`. A call of `think` is none: there the
model itself waits before it answers. The tools write to files, outside of everything that is being
tested, so that executions can be counted from outside.
"""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agent_worker import run_info, serve, tool_context
from tests.traces import FOLDER

POLL_S = 0.01
THINK = "think"


def _folder() -> Path:
    return Path(os.environ[FOLDER])


def _trace(event: str, name: str) -> None:
    entry = {
        "event": event,
        "name": name,
        "key": tool_context().idempotency_key,
        "attempt": tool_context().run.attempt,
        "pid": os.getpid(),
    }
    _write("executions.jsonl", entry)


def _trace_model_call(played: int) -> None:
    run = run_info()
    entry = {"round": played, "run": run.run_id, "attempt": run.attempt, "pid": os.getpid()}
    _write("model_calls.jsonl", entry)


def _write(name: str, entry: dict[str, Any]) -> None:
    with (_folder() / name).open("a") as log:
        log.write(json.dumps(entry) + "\n")


def _is_permitted(*names: str) -> bool:
    return any((_folder() / f"{name}.permitted").exists() for name in names)


async def _permission(*names: str) -> None:
    while not _is_permitted(*names):  # noqa: ASYNC110
        await asyncio.sleep(POLL_S)  # another process gives it


async def _play(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """The model: the next round of the script, as far as the history says it has come."""
    script: Sequence[Sequence[Sequence[str]]] = []
    played = 0
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                script, played = json.loads(str(part.content)), 0
        played += isinstance(message, ModelResponse)
    _trace_model_call(played)
    if played >= len(script):
        return ModelResponse(parts=[TextPart("done")])
    for name, argument in script[played]:
        if name == THINK:
            await _permission(argument)
    calls = [(name, argument) for name, argument in script[played] if name != THINK]
    return ModelResponse(
        parts=[
            ToolCallPart(name, {"name": argument}, tool_call_id=f"call-{played}-{index}")
            for index, (name, argument) in enumerate(calls)
        ]
    )


_agent = Agent(FunctionModel(_play), name="script")


@_agent.tool_plain
async def note(name: str) -> str:
    """End at once."""
    _trace("start", name)
    _trace("end", name)
    return f"noted {name}"


@_agent.tool_plain
async def wait(name: str) -> str:
    """End when somebody permits it, or permits this attempt of the run to do it."""
    _trace("start", name)
    try:
        await _permission(name, f"{name}.{tool_context().run.attempt}")
    except asyncio.CancelledError:
        _trace("cancel", name)
        raise
    _trace("end", name)
    return f"waited for {name}"


@_agent.tool_plain
async def block(name: str) -> str:
    """Hold up the whole event loop, as no tool should, until somebody permits it to end."""
    _trace("start", name)
    attempt = tool_context().run.attempt
    while not _is_permitted(name, f"{name}.{attempt}"):
        time.sleep(POLL_S)  # noqa: ASYNC251  this is what it is for
    _trace("end", name)
    return f"blocked for {name}"


@_agent.tool_plain
async def fail(name: str) -> str:
    """Raise."""
    raise ValueError(f"{name} went wrong")


script = serve(_agent, stream_text=False)
