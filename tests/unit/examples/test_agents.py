"""The example agents: which model they get, and what a tool does that must not do it twice."""

import asyncio

import pytest
from pydantic_ai.models.function import FunctionModel

from agent_client import AsyncAgentClient
from agent_worker.context import RunInfo, ToolContext, in_tool
from examples import agents
from examples.travel import tools


async def book(key: str) -> tools.Booking:
    """Book in a tool call with this idempotency key."""
    with in_tool(ToolContext(RunInfo("run", "travel"), "book_flight", "call", key)):
        return await tools.book_flight("VIE-LIS-2150", 2)


def test_without_a_key_the_model_is_the_script() -> None:
    """A machine without any key needs no network."""
    assert isinstance(agents.choose_model({}), FunctionModel)


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"OPENAI_API_KEY": "key"}, "openai:gpt-6-luna"),
        ({"OPENAI_API_KEY": "key", "OPENAI_BASE_URL": "http://here"}, "openai-chat:gpt-6-luna"),
        ({"OPENAI_API_KEY": "key", "AGENTS_EXAMPLE_MODEL": "groq:other"}, "groq:other"),
    ],
)
def test_the_environment_chooses_the_model(environment: dict[str, str], name: str) -> None:
    """A key means its provider, a server of one's own its language, a name just that."""
    assert agents.choose_model(environment) == name


def test_a_key_without_its_library_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is there for something else does not break the example."""
    monkeypatch.setattr(agents, "find_spec", lambda name: None)
    assert isinstance(agents.choose_model({"ANTHROPIC_API_KEY": "key"}), FunctionModel)


def test_the_script_can_be_asked_for() -> None:
    """With a key set, a run without cost stays possible."""
    environment = {"OPENAI_API_KEY": "key", "AGENTS_EXAMPLE_MODEL": "scripted"}
    assert isinstance(agents.choose_model(environment), FunctionModel)


async def test_one_idempotency_key_is_one_booking() -> None:
    """A call that is repeated under its key books nothing new; another key does."""
    first, again, other = await asyncio.gather(book("run.2.0"), book("run.2.0"), book("run.4.0"))
    assert first == again
    assert other.reference != first.reference


async def test_a_plain_function_is_an_agent() -> None:
    """`echo` answers through the whole system."""
    async with AsyncAgentClient.local(agents.echo) as client:
        run = await client.submit("echo", "Hello")
        assert await run.output(timeout_s=10) == "You said: Hello"
