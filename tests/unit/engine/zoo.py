"""Agents with all that Pydantic AI offers, played by a scripted model that notes what it sees."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, NativeOutput, RunContext, Tool, ToolOutput, ToolReturn
from pydantic_ai.capabilities import Capability, Thinking
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserContent,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.toolsets import FunctionToolset

from agent_worker.context import tool_context

Script = Sequence[Sequence[ModelResponsePart]] | Mapping[int, Sequence[ModelResponsePart]]
"""What a model says, by the number of answers that it finds in the history."""


@dataclass
class Notes:
    """What the model saw and the tools did in one or more executions of a run."""

    seen: dict[int, Any] = field(default_factory=dict)
    """By round: the messages and the instructions that the model was sent."""
    asked: Counter[int] = field(default_factory=Counter)
    executed: Counter[str] = field(default_factory=Counter)
    """By idempotency key: how often a tool or an output function was executed."""

    def execute(self) -> None:
        """What every tool begins with."""
        self.executed[tool_context().idempotency_key] += 1


Animal = Callable[[Notes], Agent[Any, Any]]


def scripted(script: Script, notes: Notes) -> FunctionModel:
    """A model that says the parts of `script`."""

    async def answer(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        number = sum(isinstance(message, ModelResponse) for message in history)
        notes.asked[number] += 1
        notes.seen[number] = (visible(history), info.instructions)
        return ModelResponse(parts=list(script[number]))

    return FunctionModel(answer)


def visible(history: Sequence[ModelMessage]) -> Any:
    """What of a history could make a difference to a model: all but times and ids of runs."""
    dumped = ModelMessagesTypeAdapter.dump_python(list(history), mode="json")
    hidden = {"timestamp", "run_id", "conversation_id", "usage", "metadata", "instructions"}
    return [
        {
            name: [
                {key: value for key, value in part.items() if key not in {"timestamp", "retry"}}
                for part in field
            ]
            if name == "parts"
            else field
            for name, field in message.items()
            if name not in hidden
        }
        for message in dumped
    ]


async def act() -> str:
    """A tool that does nothing special."""
    return "acted"


def call(name: str, arguments: str | dict[str, Any] = "{}", call_id: str = "c") -> ToolCallPart:
    """A tool call as the model writes it; ids repeat unless they are given."""
    return ToolCallPart(name, arguments, call_id)


class Weather(BaseModel):
    """A structured output."""

    city: str
    degrees: int


def parallel_and_sync(notes: Notes) -> Agent[Any, Any]:
    """Async and sync tools side by side, with prompts of both kinds; one raises."""
    script: Script = [
        [ThinkingPart("hm", signature="s"), call("one", call_id="a"), call("two", call_id="b")],
        [TextPart("And now."), call("one", '{"loud": true}', "a"), call("bad", call_id="b")],
        [TextPart("done")],
    ]
    agent = Agent(scripted(script, notes), instructions="Be good.", system_prompt="You are good.")

    @agent.tool_plain
    async def one(*, loud: bool = False) -> str:
        notes.execute()
        return "ONE" if loud else "one"

    @agent.tool_plain
    def two() -> dict[str, int]:
        notes.execute()
        return {"two": 2}

    @agent.tool_plain
    def bad() -> str:
        notes.execute()
        raise KeyError("two")

    return agent


def structured_output(notes: Notes) -> Agent[Any, Any]:
    """An output tool behind a tool in one answer; its first arguments are not valid."""
    script: Script = [
        [call("measure", call_id="a"), call("final_result", '{"city": "Ulm"}', "b")],
        [call("final_result", '{"city": "Ulm", "degrees": 7}', "a")],
    ]
    agent = Agent(scripted(script, notes), output_type=ToolOutput(Weather, name="final_result"))

    @agent.tool_plain
    async def measure() -> int:
        notes.execute()
        return 7

    return agent


def output_function(notes: Notes) -> Agent[Any, Any]:
    """An output that a function makes of the arguments, beside a tool that is skipped."""

    def post(city: str) -> dict[str, str]:
        notes.execute()
        return {"posted": city}

    script: Script = [[call("look"), call("post", '{"city": "Ulm"}', "d")]]
    agent = Agent(
        scripted(script, notes), output_type=ToolOutput(post, name="post"), end_strategy="early"
    )

    @agent.tool_plain
    async def look() -> str:
        notes.execute()
        return "never"

    return agent


def text_output_corrected(notes: Notes) -> Agent[Any, Any]:
    """Structured output as text: wrong, empty, then right; the feedback goes to the model."""
    script: Script = [
        [TextPart('{"city": "Ulm"}')],
        [ThinkingPart("hm")],
        [TextPart('{"city": "Ulm", "degrees": 7}')],
    ]
    return Agent(scripted(script, notes), output_type=NativeOutput(Weather), retries={"output": 3})


def corrections(notes: Notes) -> Agent[Any, Any]:
    """A tool that asks for a correction, one that does not exist, one with wrong arguments."""
    script: Script = [
        [call("strict", '{"n": 0}', "a"), call("unknown", call_id="b"), call("fine", call_id="e")],
        [call("strict", '{"n": "x"}', "a"), call("fine", call_id="b")],
        [call("strict", '{"n": 1}')],
        [TextPart("done")],
    ]
    agent = Agent(scripted(script, notes), retries=5)

    @agent.tool_plain
    async def strict(n: int) -> str:
        notes.execute()
        if n == 0:
            raise ModelRetry("n must not be 0")
        return str(n)

    @agent.tool_plain
    def fine() -> None:
        notes.execute()

    return agent


def follow_up(notes: Notes) -> Agent[Any, Any]:
    """Tools that say more to the model than their result, and return files."""
    script: Script = [
        [call("shot", '{"n": 1}', "a"), call("shot", '{"n": 2}', "b"), call("file", call_id="e")],
        [call("shot", '{"n": 3}')],
        [TextPart("done")],
    ]
    agent = Agent(scripted(script, notes))

    @agent.tool_plain
    async def shot(n: int) -> ToolReturn[Any]:
        notes.execute()
        image = BinaryContent(bytes([n]), media_type="image/png")
        content: list[UserContent] | str = ["Look:", image] if n == 1 else f"Nothing on {n}."
        return ToolReturn({"n": n} if n == 2 else f"shot {n}", content=content, metadata={"n": n})

    @agent.tool_plain
    def file() -> list[Any]:
        notes.execute()
        return ["here", BinaryContent(b"pdf", media_type="application/pdf")]

    return agent


def one_id_for_all(notes: Notes) -> Agent[Any, Any]:
    """A provider that gives all calls of an answer one id, and sometimes none."""
    script: Script = [
        [call("echo", f'{{"n": {n}}}', "same") for n in range(3)],
        [call("echo", '{"n": 3}', ""), call("echo", '{"n": 4}', "")],
        [TextPart("done")],
    ]
    agent = Agent(scripted(script, notes))

    @agent.tool_plain
    async def echo(n: int) -> int:
        notes.execute()
        return n

    return agent


def said_in_between(notes: Notes) -> Agent[Any, Any]:
    """A tool puts a prompt into the run, which goes to the model behind the results."""
    script: Script = [
        [call("hint", call_id="a"), call("quiet", call_id="b")],
        [call("quiet")],
        [TextPart("done")],
    ]
    agent: Agent[Any, Any] = Agent(scripted(script, notes))

    @agent.tool
    async def hint(ctx: RunContext[Any]) -> str:
        notes.execute()
        ctx.enqueue("By the way.")
        return "hinted"

    @agent.tool_plain
    async def quiet() -> str:
        notes.execute()
        return "quiet"

    return agent


def revealed_tools(notes: Notes) -> Agent[Any, Any]:
    """Tools that become known on the way: one by a result, others with a capability."""
    script: Script = [
        [call("open_box", call_id="a"), call("load_capability", '{"id": "math"}', "b")],
        [call("hidden"), call("double", '{"n": 2}', "d")],
        [TextPart("done")],
    ]

    def double(n: int) -> int:
        notes.execute()
        return 2 * n

    math = Capability(
        id="math",
        description="Sums.",
        instructions="Use double.",
        toolsets=[FunctionToolset([double])],
        defer_loading=True,
    )

    def hidden() -> str:
        notes.execute()
        return "found"

    agent: Agent[Any, Any] = Agent(
        scripted(script, notes), capabilities=[math], tools=[Tool(hidden, defer_loading=True)]
    )

    @agent.tool_plain
    async def open_box() -> ToolReturn[Any]:
        notes.execute()
        return ToolReturn("opened", tools=["hidden"])

    return agent


def changing_instructions(notes: Notes) -> Agent[Any, Any]:
    """Instructions whose changes are appended to the history, and an effort for thinking."""
    script: Script = [[call("step")], [call("step")], [TextPart("done")]]
    agent: Agent[Any, Any] = Agent(
        scripted(script, notes), capabilities=[Thinking("high")], instructions="Be good."
    )

    @agent.tool_plain
    async def step() -> str:
        notes.execute()
        return "stepped"

    @agent.instructions(name="progress", on_change="append")
    def progress(ctx: RunContext[Any]) -> str:
        return f"{sum(isinstance(message, ModelResponse) for message in ctx.messages)} steps so far"

    return agent


ANIMALS: Sequence[Animal] = (
    parallel_and_sync,
    structured_output,
    output_function,
    text_output_corrected,
    corrections,
    follow_up,
    one_id_for_all,
    said_in_between,
    revealed_tools,
    changing_instructions,
)
