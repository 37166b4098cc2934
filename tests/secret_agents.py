"""An agent that says marker words in each place where a run can say something.

What it does is in its input: `tell` (streamed text, a tool that succeeds, one that fails, one that
waits, an answer), `stop` (a tool that waits) or `break` (the model raises).
"""

from collections.abc import AsyncIterator
from typing import Final

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from agent_worker import serve
from tests.agents import _permission, _trace

INPUT: Final = "inputmarkerzq"
METADATA: Final = "metadatamarkerzq"
STREAMED: Final = "streamedmarkerzq"
ARGUMENT: Final = "argumentmarkerzq"
RESULT: Final = "resultmarkerzq"
TOOL_ERROR: Final = "toolerrormarkerzq"
ANSWER: Final = "answermarkerzq"
RUN_ERROR: Final = "runerrormarkerzq"
MARKERS: Final = (INPUT, METADATA, STREAMED, ARGUMENT, RESULT, TOOL_ERROR, ANSWER, RUN_ERROR)


def _call(index: int, name: str, argument: str) -> DeltaToolCalls:
    arguments = f'{{"name": "{argument}", "note": "{ARGUMENT}"}}'
    return {index: DeltaToolCall(name=name, json_args=arguments, tool_call_id=f"{name}-{index}")}


async def _stream(
    messages: list[ModelMessage], _: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    task, played = "", 0
    for message in messages:
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                task, played = str(part.content), 0
        played += isinstance(message, ModelResponse)
    if "break" in task:
        raise RuntimeError(f"the model says {RUN_ERROR}")
    if played == 0 and "tell" in task:
        for piece in (f"I look: {STREAMED} ", "and ", "so on"):
            yield piece
        yield _call(1, "look", "look")
        yield _call(2, "stumble", "stumble")
    elif (played == 1 and "tell" in task) or (played == 0 and "stop" in task):
        yield _call(1, "hold", task.split()[1])
    else:
        yield f"{ANSWER} it is"


_agent = Agent(FunctionModel(stream_function=_stream), name="teller")


@_agent.tool_plain
async def look(name: str, note: str) -> str:
    """End at once."""
    _trace("start", name)
    _trace("end", name)
    return f"{RESULT} of {note} {'and the like ' * 50}"


@_agent.tool_plain
async def stumble(name: str, note: str) -> str:
    """Raise."""
    _trace("start", name)
    raise ValueError(f"{TOOL_ERROR} for {note}")


@_agent.tool_plain
async def hold(name: str, note: str) -> str:
    """End when somebody permits it."""
    _trace("start", name)
    await _permission(name)
    _trace("end", name)
    return f"{RESULT} of {note}"


teller = serve(_agent)
