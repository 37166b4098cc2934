"""A real agent on the real client replays recordings, and its history must equal them."""

from collections.abc import AsyncIterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.model_server import (
    Message,
    ModelServer,
    RecordedTools,
    Recording,
    create_app,
    load_recordings,
    replay_model,
)
from tests.unit.model_server.sample import RECORDING

EVERY = 12
"""One in so many recordings is replayed: enough to see each source, little enough to be quick."""


async def _replay(
    client: AsyncOpenAI, recording: Recording, *, stream: bool, name_runs: bool = False
) -> list[Message]:
    """Run every recorded run, with the history stored as JSON in between; return the messages."""
    history: list[ModelMessage] = []
    for run in recording.runs():
        name = replay_model(recording.id, run.index if name_runs else None)
        agent = Agent(
            OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client)),
            instructions=recording.system_prompt,
            tools=_tools(recording, run.index),
        )
        result = await agent.run(
            run.user_text,
            message_history=history,
            event_stream_handler=_drain if stream else None,
        )
        stored = ModelMessagesTypeAdapter.dump_json(result.all_messages())
        history = ModelMessagesTypeAdapter.validate_json(stored)
    return _as_chat(history)


async def _drain(ctx: RunContext[None], events: AsyncIterable[Any]) -> None:
    async for _ in events:
        pass


def _tools(recording: Recording, run_index: int) -> list[Tool[None]]:
    recorded = RecordedTools(recording)

    async def answer(ctx: RunContext[None], **arguments: Any) -> str:
        assert ctx.tool_call_id is not None
        assert ctx.tool_name is not None
        place = _round_index(ctx.messages)
        return recorded.result(run_index, place, ctx.tool_call_id, ctx.tool_name, arguments)

    return [
        Tool.from_schema(
            answer, spec["name"], spec.get("description"), spec["parameters"], takes_ctx=True
        )
        for spec in (tool["function"] for tool in recorded.specs)
    ]


def _round_index(messages: Sequence[ModelMessage]) -> int:
    """Count the model's answers since the last user message; the last of them made this call."""
    count = 0
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            count += 1
        elif any(isinstance(part, UserPromptPart) for part in message.parts):
            break
    return count - 1


def _as_chat(history: Sequence[ModelMessage]) -> list[Message]:
    return [
        chat
        for message in history
        for chat in (
            _request_as_chat(message)
            if isinstance(message, ModelRequest)
            else [_response_as_chat(message)]
        )
    ]


def _request_as_chat(message: ModelRequest) -> list[Message]:
    chats: list[Message] = []
    for part in message.parts:
        if isinstance(part, UserPromptPart):
            chats.append({"role": "user", "content": part.content})
            continue
        assert isinstance(part, ToolReturnPart), part
        chat = {"role": "tool", "tool_call_id": part.tool_call_id, "name": part.tool_name}
        chats.append(chat | {"content": part.content})
    return chats


def _response_as_chat(message: ModelResponse) -> Message:
    assert all(isinstance(part, TextPart | ToolCallPart) for part in message.parts), message
    texts = [part.content for part in message.parts if isinstance(part, TextPart)]
    chat: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None}
    calls = [
        {
            "id": part.tool_call_id,
            "type": "function",
            "function": {"name": part.tool_name, "arguments": part.args},
        }
        for part in message.parts
        if isinstance(part, ToolCallPart)
    ]
    return chat | {"tool_calls": calls} if calls else chat


def _without_system(recording: Recording) -> list[Message]:
    return [message for message in recording.replayable if message["role"] != "system"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name_runs", [False, True])
async def test_an_agent_replays_the_made_up_recording(
    server: ModelServer, client: AsyncOpenAI, stream: bool, name_runs: bool
) -> None:
    """Streamed or not, under both forms of the model's name, the history is the recording."""
    messages = await _replay(client, RECORDING, stream=stream, name_runs=name_runs)
    assert messages == _without_system(RECORDING)
    stats = server.stats()
    assert (stats.requests, stats.errors) == (5, 0)
    assert stats.streamed == (5 if stream else 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["conversations", "parallel_calls"])
async def test_an_agent_replays_real_recordings_to_the_character(
    recordings_folder: Path, name: str, stream: bool
) -> None:
    """Ids, arguments as written, empty results and order: all as recorded, nothing refused."""
    recordings = list(load_recordings(recordings_folder / f"{name}.jsonl"))[::EVERY]
    assert len(recordings) >= 5
    with ModelServer(create_app(recordings)) as server:
        async with AsyncOpenAI(base_url=server.base_url, api_key="unused") as client:
            for recording in recordings:
                messages = await _replay(client, recording, stream=stream)
                assert messages == _without_system(recording), recording.id
        assert server.stats().errors == 0


async def test_an_agent_that_changes_its_history_is_refused(
    server: ModelServer, client: AsyncOpenAI
) -> None:
    """A tool that answers otherwise than recorded cannot end in a completed run."""
    model = OpenAIChatModel(
        replay_model(RECORDING.id), provider=OpenAIProvider(openai_client=client)
    )
    agent = Agent(model)

    @agent.tool_plain
    def weather(city: str) -> str:
        return f"unknown in {city}"

    with pytest.raises(ModelHTTPError, match="content is 'unknown in Rome', recorded is 'sunny'"):
        await agent.run(RECORDING.runs()[0].user_text)
    assert server.stats().mismatches == 1


async def test_what_goes_back_to_the_model_spells_arguments_anew(
    server: ModelServer, client: AsyncOpenAI
) -> None:
    """The library keeps arguments as written and sends them compact: compare them as JSON."""
    await _replay(client, RECORDING, stream=False)
    [sent] = [
        message["tool_calls"][0]["function"]["arguments"]
        for message in server.requests()[1]["messages"]
        if message.get("tool_calls")
    ]
    assert sent == '{"city":"Rome"}'
