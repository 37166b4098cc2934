"""An engine that plays a script, as small as the protocol allows."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent_worker.engine.protocol import EngineEvent, EngineRequest, Finished, TextDelta
from agent_worker.execution.closing import open_calls
from shared.message import Draft, MessageKind, Role, ToolCall, Usage, tool_result_draft
from shared.run import AgentInfo

Tool = Callable[[str], Awaitable[str]]
Step = Callable[[int], Awaitable[None]]


def says(text: str) -> Draft:
    """An assistant's message without calls: the last one of a script."""
    return Draft(role=Role.ASSISTANT, content=text, usage=Usage(input_tokens=10, requests=1))


def calls(*names: str) -> Draft:
    """An assistant's message that asks for tools. Ids repeat from message to message, as they do
    with some providers."""
    return Draft(
        role=Role.ASSISTANT,
        kind=MessageKind.TOOL_CALL,
        tool_calls=tuple(
            ToolCall(id=f"call-{index}", name=name, arguments="{}")
            for index, name in enumerate(names)
        ),
        usage=Usage(input_tokens=10, requests=1),
    )


async def _go_on(_: int) -> None:
    """Do not wait."""


async def _echo(name: str) -> str:
    return f"{name} ended"


@dataclass
class ScriptedEngine:
    """Answers with the messages of `script`, one a round, and runs the tools that they ask for.

    `before_step` is awaited with the number of known messages before each model call, each tool and
    the end: where the engine of a real agent waits for something. Tools without an entry in `tools`
    end at once.
    """

    script: Sequence[Draft]
    tools: Mapping[str, Tool] = field(default_factory=dict)
    before_step: Step = _go_on
    pieces: Sequence[str] = ()
    """Text deltas before each answer."""
    answered: list[int] = field(default_factory=list)
    """Rounds that a model was asked for."""
    executed: list[str] = field(default_factory=list)
    """Tools that ended."""
    requests: list[EngineRequest] = field(default_factory=list)

    @property
    def info(self) -> AgentInfo:
        return AgentInfo(name="scripted", queue="", tools=tuple(self.tools))

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        self.requests.append(request)
        known: list[Draft] = list(request.own)
        while True:
            for call in open_calls(known):
                await self.before_step(len(known))
                content = await self.tools.get(call.name, _echo)(call.name)
                self.executed.append(call.name)
                known.append(tool_result_draft(call, content))
                yield known[-1]
            await self.before_step(len(known))
            answers = [message for message in known if message.role is Role.ASSISTANT]
            if answers and not answers[-1].tool_calls:
                yield Finished(
                    output=answers[-1].text,
                    usage=Usage(input_tokens=10 * len(answers), requests=len(answers)),
                    rounds=len(answers),
                )
                return
            self.answered.append(len(answers))
            for piece in self.pieces:
                await asyncio.sleep(0)  # as a stream does, let others run
                yield TextDelta(piece)
            known.append(self.script[len(answers)])
            yield known[-1]
