"""A worker: a process of DBOS that takes runs from the queue.

    python worker.py NAME

When it listens, it leaves a file of its name in the peer's folder.
"""

import asyncio
import os
import sys
from pathlib import Path

import _work
from chat_form import chat_form
from dbos import DBOS, DBOSConfig
from pydantic_ai import Agent, CallToolsNode, ModelRequestNode
from pydantic_ai.durable_exec.dbos import DBOSDurability
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

ROUNDS = int(os.environ["PEER_ROUNDS"])
LATENCY_S = float(os.environ["PEER_LATENCY_S"])
AT_ONCE = int(os.environ["PEER_AT_ONCE"])
"""Runs in flight in this process."""


async def think(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Stand in for a model."""
    await asyncio.sleep(LATENCY_S)
    asked = str(messages[0].parts[0].content)  # type: ignore[union-attr]  the user's prompt
    run = int(asked.removeprefix("Question ").partition(":")[0])
    number = sum(isinstance(message, ModelResponse) for message in messages) + 1
    if number == ROUNDS:
        return ModelResponse([TextPart(_work.final(run))])
    call = ToolCallPart(_work.TOOL, _work.arguments(run, number), _work.call_id(run, number))
    return ModelResponse([call])


agent = Agent(FunctionModel(think), name="shop", capabilities=[DBOSDurability()])


@agent.tool_plain(name=_work.TOOL)
@DBOS.step(name=_work.TOOL)
async def look_up(run: int, number: int) -> str:
    """Look something up."""
    return _work.look_up(run, number)


@DBOS.workflow(name="answer")
async def answer(question: str) -> str:
    """Do a run."""
    result = await agent.run(question)
    return result.output


@DBOS.workflow(name="answer:streams")
async def answer_in_public(question: str) -> str:
    """Do a run and write each message to a stream the moment it exists."""
    async with agent.iter(question) as run:
        async for node in run:
            match node:
                case ModelRequestNode():
                    parts = node.request.parts
                case CallToolsNode():
                    parts = node.model_response.parts
                case _:
                    continue
            for part in parts:
                await DBOS.write_stream_async("messages", chat_form(part))
        await DBOS.close_stream_async("messages")
    assert run.result is not None
    return run.result.output


async def main(name: str) -> None:
    """Work until the process ends."""
    config: DBOSConfig = {
        "name": "peer",
        "executor_id": name,
        "system_database_url": os.environ["POSTGRES_URL"],
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()
    await DBOS.register_queue_async("runs", worker_concurrency=AT_ONCE, polling_interval_sec=0.1)
    (Path(os.environ["PEER_FOLDER"]) / name).touch()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
