"""Local mode: the same client, with a worker in the same process, without Redis and Celery."""

import asyncio
import sys
from types import ModuleType

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from agent_client import (
    AgentClient,
    AsyncAgentClient,
    CancelResult,
    ConversationConfig,
    DeltaEvent,
    MessageEvent,
    MessageKind,
    RunFailedError,
    RunStatus,
    Settings,
    StatusEvent,
    UnknownAgentError,
)
from agent_worker import serve
from shared.errors import AgentDefinitionError

QUICK = Settings(handover_grace_s=0)


def weather_agent() -> "Agent[None, str]":
    """An agent that asks for the weather once, and then answers with it."""

    def play(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        if isinstance(messages[-2] if len(messages) > 1 else None, ModelResponse):
            return ModelResponse(parts=[TextPart("It is sunny.")])
        return ModelResponse(parts=[ToolCallPart("weather", {"city": "Paris"})])

    agent = Agent(FunctionModel(play), name="weather")

    @agent.tool_plain
    async def weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    return agent


def patient_agent() -> tuple["Agent[None, str]", asyncio.Event]:
    """An agent whose tool is still waiting when the event is set."""
    is_waiting = asyncio.Event()
    agent = Agent(TestModel(), name="patient")

    @agent.tool_plain
    async def wait() -> str:
        """Wait for ever."""
        is_waiting.set()
        await asyncio.Event().wait()
        return "never"

    return agent, is_waiting


async def test_a_run_is_executed_watched_and_answered_in_this_process() -> None:
    """From submit to output: messages with their tool call and result, and the final status."""
    async with AsyncAgentClient.local(weather_agent(), settings=QUICK) as client:
        assert [agent.name for agent in await client.agents()] == ["weather"]
        run = await client.submit("weather", "What is it like?", require_worker=True)
        kinds = [message.kind async for message in run.watch()]
        assert kinds == [
            MessageKind.MESSAGE,
            MessageKind.TOOL_CALL,
            MessageKind.TOOL_RESULT,
            MessageKind.MESSAGE,
        ]
        assert await run.output(timeout_s=10) == "It is sunny."
        assert (await run.get()).status is RunStatus.COMPLETED


async def test_events_tell_the_text_before_the_message() -> None:
    """The pieces of the answer come before it and are its text."""
    agent = Agent(TestModel(custom_output_text="a rather long answer"), name="author")
    async with AsyncAgentClient.local(agent, settings=QUICK) as client:
        run = await client.submit("author", "Write!")
        events = [event async for event in run.events()]
    stored = next(i for i, event in enumerate(events) if is_message_at(event, 1))
    pieces = [event for event in events[:stored] if isinstance(event, DeltaEvent)]
    assert "".join(piece.text for piece in pieces) == "a rather long answer"
    assert isinstance(events[-1], StatusEvent)
    assert events[-1].status is RunStatus.COMPLETED


def is_message_at(event: object, position: int) -> bool:
    return isinstance(event, MessageEvent) and event.message.position == position


async def test_a_conversation_goes_on_with_what_was_said() -> None:
    """The second run of a conversation finds the messages of the first."""
    agent = Agent(TestModel(custom_output_text="yes"), name="clerk")
    async with AsyncAgentClient.local(agent, settings=QUICK) as client:
        for text in ("one", "two"):
            run = await client.submit("clerk", text, conversation_id="web:ada")
            await run.result(timeout_s=10)
        texts = [message.text for message in await client.history("web:ada")]
    assert texts == ["one", "yes", "two", "yes"]


async def test_a_running_run_is_cancelled() -> None:
    """cancel reaches the worker, which leaves a result behind for the open call."""
    agent, is_waiting = patient_agent()
    async with AsyncAgentClient.local(agent, settings=QUICK) as client:
        run = await client.submit("patient", "Wait!")
        await asyncio.wait_for(is_waiting.wait(), 10)
        assert await run.cancel() is CancelResult.REQUESTED
        assert (await run.result(timeout_s=10)).status is RunStatus.CANCELLED
        assert (await run.history())[-1].kind is MessageKind.TOOL_RESULT


async def test_closing_gives_up_what_still_runs() -> None:
    """Leaving the client ends within its grace, with a run in the middle of a tool."""
    agent, is_waiting = patient_agent()
    async with asyncio.timeout(10):
        async with AsyncAgentClient.local(agent, settings=QUICK) as client:
            await client.submit("patient", "Wait!")
            await is_waiting.wait()
    assert {task.get_name() for task in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]  # this is one


async def test_the_worker_starts_with_the_first_use() -> None:
    """Without a context manager, the first submit starts it, and aclose stops it."""
    client = AsyncAgentClient.local(weather_agent(), settings=QUICK)
    try:
        runs = await asyncio.gather(*(client.submit("weather", "?") for _ in range(3)))
        assert [await run.output(timeout_s=10) for run in runs] == ["It is sunny."] * 3
        assert len(await client.workers()) == 1
    finally:
        await client.aclose()


async def test_a_failing_agent_is_a_failed_run() -> None:
    """What goes wrong in an agent arrives as the run's error."""

    def fail(_: list[ModelMessage], __: AgentInfo) -> ModelResponse:
        raise ValueError("the model is confused")

    agent = Agent(FunctionModel(fail), name="clerk")
    async with AsyncAgentClient.local(agent, settings=QUICK) as client:
        run = await client.submit("clerk", "hello")
        with pytest.raises(RunFailedError, match="confused"):
            await run.output(timeout_s=30)


async def test_a_memory_conversation_is_welcome_here() -> None:
    """The config that remote workers refuse is the one of local mode; its size reaches the run."""
    config = ConversationConfig(backend="memory", size=3)
    client = AsyncAgentClient.local(weather_agent(), settings=QUICK, conversation=config)
    async with client:
        run = await client.submit("weather", "?")
        assert (await run.get()).options.history_size == 3
        await run.result(timeout_s=10)


async def test_an_unknown_agent_is_refused_here_as_well() -> None:
    """The worker in this process is as alive as any other."""
    async with AsyncAgentClient.local(weather_agent(), settings=QUICK) as client:
        with pytest.raises(UnknownAgentError, match="weather"):
            await client.submit("whether", "?")


def test_agents_come_as_they_are_or_in_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents, definitions, async functions, modules and names of modules can be mixed."""

    async def echo(request: object) -> str:
        return "echo"

    module, named = ModuleType("module_of_agents"), ModuleType("named_module_of_agents")
    vars(module)["first"] = serve(weather_agent(), name="first")
    vars(named)["second"] = serve(weather_agent(), name="second")
    monkeypatch.setitem(sys.modules, "named_module_of_agents", named)
    third = serve(weather_agent(), name="third")
    with AgentClient.local(
        module, "named_module_of_agents", third, weather_agent(), echo, settings=QUICK
    ) as client:
        names = [agent.name for agent in client.agents()]
    assert names == ["echo", "first", "second", "third", "weather"]


def test_what_cannot_be_served_is_refused_when_built() -> None:
    """No agent at all, something else, and two of one name are errors before anything starts."""
    with pytest.raises(AgentDefinitionError, match="no agent"):
        AsyncAgentClient.local()
    with pytest.raises(AgentDefinitionError, match="cannot be served"):
        AsyncAgentClient.local(42)
    with pytest.raises(AgentDefinitionError, match="Two agents are called 'weather'"):
        AsyncAgentClient.local(weather_agent(), weather_agent())


def test_the_blocking_client_has_a_local_mode_too() -> None:
    """The worker lives in the client's background loop."""
    with AgentClient.local(weather_agent(), settings=QUICK) as client:
        run = client.submit("weather", "?", conversation_id="web:ada")
        assert [message.text for message in run.watch()][-1] == "It is sunny."
        assert run.output(timeout_s=10) == "It is sunny."
        assert len(client.history("web:ada")) == 4
