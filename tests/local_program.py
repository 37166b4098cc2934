"""A program in local mode, as a user would write one: it says things in a conversation and ends.

    python -m tests.local_program URL CONVERSATION TEXT ...

It prints the answers, each of which says what the model heard so far. With the text "hang" its
agent's tool prints `HANGS` and never returns. Its model takes no history in which a call has no result.
"""

import asyncio
import sys
from typing import Final

import structlog
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agent_client import AsyncAgentClient, ConversationConfig

HANGS: Final = "hangs"


def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Call the tool if the last word is "hang"; otherwise say what was heard."""
    check_paired(messages)
    parts = [part for message in messages for part in message.parts]
    said = [str(part.content) for part in parts if isinstance(part, UserPromptPart)]
    if said[-1] == "hang":
        return ModelResponse(parts=[ToolCallPart("hang", {}, "call-1")])
    return ModelResponse(parts=[TextPart(f"heard {', '.join(said)}")])


def check_paired(messages: list[ModelMessage]) -> None:
    """Do what providers do: refuse a call that is not followed by its result."""
    for message, following in zip(messages, [*messages[1:], None], strict=True):
        called = {part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)}
        parts = following.parts if following is not None else []
        answered = {part.tool_call_id for part in parts if isinstance(part, ToolReturnPart)}
        if called != answered:
            raise ValueError(f"calls {called} and results {answered}")


async def hang() -> str:
    """Never return."""
    print(HANGS, flush=True)  # noqa: T201 - whoever started this waits for it
    await asyncio.Event().wait()
    return ""


async def main(url: str, conversation_id: str, *texts: str) -> None:
    """Say one thing after the other."""
    agent = Agent(FunctionModel(answer), name="clerk")
    agent.tool_plain(hang)
    config = ConversationConfig(backend=url)
    async with AsyncAgentClient.local(agent, conversation=config) as client:
        for text in texts:
            run = await client.submit("clerk", text, conversation_id=conversation_id)
            print(await run.output(timeout_s=20), flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(*sys.argv[1:]))
