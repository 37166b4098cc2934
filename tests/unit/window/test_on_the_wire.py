"""Every policy over the wire: recorded conversations, the real OpenAI client, a strict provider.

The stand-in server refuses what providers refuse, and answers only to a run's messages exactly as
recorded. The recordings are put one behind the other into one conversation, so that windows are
full most of the time.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import SelectModel
from pydantic_ai.messages import ModelResponse, UserPromptPart
from pydantic_ai.models import ModelSelectionContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import Tool
from pydantic_ai.toolsets import FunctionToolset

from agent_client import AsyncAgentClient, ConversationConfig, MessageKind, RunStatus
from agent_worker import (
    LastMessages,
    OwnChoice,
    RunInfo,
    Summarise,
    TokenBudget,
    WindowPolicy,
    serve,
    tool_context,
)
from shared.message import Message, Usage
from shared.openai_chat import to_openai
from tests.model_server import (
    ModelServer,
    RecordedTools,
    Recording,
    create_app,
    load_recordings,
    replay_model,
    validate,
)
from tests.model_server.chat import text_of
from tests.unit.shared.recordings import recordings_file

FILES = {"conversations.jsonl": 5, "parallel_calls.jsonl": 5}
"""How many of each."""


@cache
def recordings() -> dict[str, Recording]:
    """Recordings of both kinds, mixed."""
    found = [
        one
        for file, limit in FILES.items()
        for one in load_recordings(recordings_file(file), limit)
        if not validate(one)
    ]
    return {one.id: one for one in sorted(found, key=lambda one: len(one.messages))}


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    """A provider that knows the recordings."""
    with ModelServer(create_app(recordings().values(), keep_requests=10_000)) as running:
        yield running


def agent(server: ModelServer, policy: WindowPolicy, **bounds: Any) -> Any:
    """Plays the run of the recording that the run's metadata names."""
    provider = OpenAIProvider(base_url=server.base_url, api_key="unused")

    def model(ctx: ModelSelectionContext[RunInfo]) -> OpenAIChatModel:
        name, index = ctx.deps.metadata["recording"], ctx.deps.metadata["run"]
        return OpenAIChatModel(replay_model(str(name), int(str(index))), provider=provider)

    playing = Agent[RunInfo, str](
        name="replay", deps_type=RunInfo, capabilities=[SelectModel(model)], output_type=str
    )

    @playing.toolset
    def tools(ctx: RunContext[RunInfo]) -> FunctionToolset[RunInfo]:
        recording = recordings()[str(ctx.deps.metadata["recording"])]
        recorded = RecordedTools(recording)
        specs = [spec["function"] for spec in recording.tools]
        return FunctionToolset([_tool(recorded, spec) for spec in specs])

    return serve(playing, deps=lambda run: run, window=policy, max_rounds=200, **bounds)


def _tool(recorded: RecordedTools, spec: dict[str, Any]) -> Tool[RunInfo]:
    async def answer(ctx: RunContext[RunInfo], **arguments: Any) -> str:
        index = int(tool_context().idempotency_key.rpartition(".")[2])
        run = int(str(ctx.deps.metadata["run"]))
        return recorded.result(run, _round(ctx), index, spec["name"], arguments)

    schema = spec.get("parameters") or {"type": "object"}
    return Tool.from_schema(answer, spec["name"], spec.get("description"), schema, takes_ctx=True)


def _round(ctx: RunContext[RunInfo]) -> int:
    """The model's answers since the last user's message; the last of them made this call."""
    count = 0
    for message in reversed(ctx.messages):
        if isinstance(message, ModelResponse):
            count += 1
        elif any(isinstance(part, UserPromptPart) for part in message.parts):
            break
    return count - 1


async def tell(so_far: str | None, messages: Sequence[Message]) -> str:
    """A summary without a model."""
    return f"{so_far or ''} {messages[0].role.value}s spoke."[-500:]


POLICIES: dict[str, WindowPolicy] = {
    "the last messages": LastMessages(20),
    "a few messages": LastMessages(3),
    "a budget": TokenBudget(1_500),
    "a summary by messages": Summarise(tell, above=LastMessages(24), keep=LastMessages(9)),
    "a summary by tokens": Summarise(tell, above=TokenBudget(4_000), keep=TokenBudget(1_200)),
    "a function": OwnChoice(lambda messages: messages[1::2]),
    "everything": OwnChoice(lambda messages: messages, read=10_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
async def test_no_policy_is_refused(server: ModelServer, name: str) -> None:
    """All runs complete as recorded, nothing is refused, and the history is the recordings'."""
    server.reset()
    definition = agent(server, POLICIES[name])
    expected: list[dict[str, Any]] = []
    async with AsyncAgentClient.local(definition, conversation=ConversationConfig()) as client:
        for recording in recordings().values():
            for run in recording.runs():
                handle = await client.submit(
                    "replay",
                    run.user_text,
                    conversation_id="long",
                    metadata={"recording": recording.id, "run": run.index},
                )
                outcome = await handle.result(timeout_s=60)
                assert outcome.status is RunStatus.COMPLETED, outcome.error
            expected += [dict(one) for one in recording.replayable if one["role"] != "system"]
        stored = await client.history("long")
    stats = server.stats()
    assert (stats.errors, stats.mismatches, stats.broken_histories) == (0, 0, 0)
    assert [_said(one) for one in to_openai(stored)] == [_said(one) for one in expected]
    summaries = [one for one in stored if one.kind is MessageKind.SUMMARY]
    assert bool(summaries) == isinstance(POLICIES[name], Summarise)
    assert len(summaries) < len([one for one in stored if one.role == "user"]) / 2


def _said(message: Any) -> tuple[Any, ...]:
    calls = [(call["id"], call["function"]["name"]) for call in message.get("tool_calls") or ()]
    return message["role"], text_of(message) or "", calls, message.get("tool_call_id")


async def test_a_model_of_the_provider_summarises(server: ModelServer) -> None:
    """Over the wire as well: its words are stored, shown in front, and paid for by the run."""
    server.reset()
    provider = OpenAIProvider(base_url=server.base_url, api_key="unused")
    policy = Summarise(
        OpenAIChatModel("echo", provider=provider), above=LastMessages(4), keep=LastMessages(2)
    )
    agent = Agent(OpenAIChatModel("echo", provider=provider), name="echo")
    async with AsyncAgentClient.local(serve(agent, window=policy)) as client:
        outcomes = [
            await (await client.submit("echo", text, conversation_id="room")).result(timeout_s=30)
            for text in ("my name is Ada", "I live in Turin", "what is my name?")
        ]
        stored = await client.history("room")
    [summary] = [one for one in stored if one.kind is MessageKind.SUMMARY]
    assert "my name is Ada" in summary.text
    asked = server.requests()[-1]["messages"]
    assert [one["role"] for one in asked] == ["user", "assistant", "user"]
    assert "my name is Ada" in asked[0]["content"]
    assert summary.usage is not None
    assert summary.usage.requests == 1
    outcome = outcomes[-1]
    assert outcome.usage.requests == 2
    answer = stored[-1].usage or Usage()
    assert outcome.usage.input_tokens == summary.usage.input_tokens + answer.input_tokens
    assert server.stats().errors == 0
