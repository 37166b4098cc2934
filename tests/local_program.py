"""A program in local mode, as a user would write one: it says things in a conversation and ends.

    python -m tests.local_program URL CONVERSATION TEXT ...

It prints the answers, each of which says what the agent heard so far. To "hang" the agent answers
with a call of a tool, prints `HANGS`, and that tool never ends. It takes no history in which a call
has no result, and looks at what it is given: Pydantic AI would mend it first.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import structlog

from agent_client import AsyncAgentClient, ConversationConfig
from agent_worker import serve
from agent_worker.engine.protocol import EngineEvent, EngineRequest
from shared.message import Draft, Message, MessageKind, Role, ToolCall

HANGS: Final = "hangs"


async def clerk(request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
    """Say what was heard."""
    seen = [*request.history, *request.own]
    check_paired(seen)
    said = [message.text for message in seen if message.role is Role.USER]
    if said[-1] == "hang":
        call = ToolCall(id="call-1", name="hang", arguments="{}")
        yield Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(call,))
        print(HANGS, flush=True)  # noqa: T201 - whoever started this waits for it
        await asyncio.Event().wait()
    yield Draft(role=Role.ASSISTANT, content=f"heard {', '.join(said)}")


def check_paired(messages: Sequence[Message]) -> None:
    """Do what providers do: refuse a call that is not followed by its result."""
    open_calls: set[str] = set()
    for message in messages:
        if message.role is Role.TOOL:
            open_calls.remove(message.tool_call_id or "")
            continue
        if open_calls:
            raise ValueError(f"calls without results: {open_calls}")
        open_calls = {call.id for call in message.tool_calls}
    if open_calls:
        raise ValueError(f"calls without results: {open_calls}")


async def main(url: str, conversation_id: str, *texts: str) -> None:
    """Say one thing after the other."""
    config = ConversationConfig(backend=url)
    async with AsyncAgentClient.local(serve(clerk), conversation=config) as client:
        for text in texts:
            run = await client.submit("clerk", text, conversation_id=conversation_id)
            print(await run.output(timeout_s=20), flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(*sys.argv[1:]))
