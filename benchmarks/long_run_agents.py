"""The agent of `benchmarks.long_run`, and the plain Celery task that it is compared with.

Both note what they do in a file, outside of everything that is being tested.
"""

import asyncio
import json
import os
import time
from typing import Any, Final

from celery import Celery
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agent_worker import run_info, serve, tool_context

EXECUTIONS: Final = "LONG_RUN_EXECUTIONS"
"""Environment variable: the file of notes."""
BROKER: Final = "LONG_RUN_BROKER"
"""Environment variable: where the plain task's messages go."""
VISIBILITY: Final = "LONG_RUN_VISIBILITY_TIMEOUT_S"
"""Environment variable: the broker's visibility timeout."""
STEP_S: Final = 3.0
"""How long each answer and each tool takes."""
PLAIN: Final = "plain"


async def _answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """The model: asks for one more tool call until the rounds of the run are over."""
    done = sum(isinstance(message, ModelResponse) for message in messages)
    note("model", f"answer {done}")
    await asyncio.sleep(STEP_S)
    if done >= int(str(run_info().metadata["rounds"])):
        return ModelResponse(parts=[TextPart("There.")])
    return ModelResponse(parts=[ToolCallPart("walk", {"step": done})])


_agent = Agent(FunctionModel(_answer), name="marathon")


@_agent.tool_plain
async def walk(step: int) -> str:
    """Take one step."""
    note("tool", tool_context().idempotency_key)
    await asyncio.sleep(STEP_S)
    return f"step {step}"


def note(what: str, key: str) -> None:
    """Write down that something was started."""
    with open(os.environ[EXECUTIONS], "a", encoding="utf-8") as log:  # noqa: PTH123  one write
        log.write(json.dumps({"what": what, "key": key, "pid": os.getpid()}) + "\n")


def plain_app() -> Celery:
    """An ordinary Celery app whose tasks are acknowledged when they are through."""
    app = Celery("plain", broker=os.environ.get(BROKER), set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        task_ignore_result=True,
        task_default_queue="plain",
        worker_prefetch_multiplier=1,
        broker_transport_options={
            "visibility_timeout": float(os.environ.get(VISIBILITY, "3600")),
            "global_keyprefix": "plain:",
        },
    )
    app.task(name=PLAIN, shared=False)(_plain)
    return app


def _plain(seconds: float) -> None:
    note(PLAIN, PLAIN)
    time.sleep(seconds)


def main(arguments: list[str]) -> Any:
    """Be a worker of the plain app."""
    return plain_app().worker_main(["worker", "--pool=threads", "--concurrency=1", *arguments])


marathon = serve(_agent, stream_text=False)

if __name__ == "__main__":
    main(
        ["--loglevel=warning", "--without-gossip", "--without-mingle", f"--hostname={os.getpid()}@"]
    )
