"""Local mode with histories on disk: they outlive the program, and what was left in the middle."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from agent_client import AgentClient, AsyncAgentClient, ConversationConfig, MessageKind, Settings
from shared.event import RemovedEvent
from shared.message import Message
from tests.local_program import HANGS

pytestmark = pytest.mark.acceptance

QUICK = Settings(handover_grace_s=0)
NAME = "web:ada"


@pytest.fixture(params=["file", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        f"file://{tmp_path}/chats" if request.param == "file" else f"sqlite:///{tmp_path}/chat.db"
    )


@contextmanager
def saying(url: str, *texts: str) -> Iterator[subprocess.Popen[str]]:
    """A program of its own that says something in the conversation."""
    words = [sys.executable, "-m", "tests.local_program", url, NAME, *texts]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def say(url: str, *texts: str) -> list[str]:
    with saying(url, *texts) as program:
        answers, logged = program.communicate(timeout=60)
    assert "run.lost" not in logged, "its token was older than one of an earlier program"
    return answers.splitlines()


async def history(url: str) -> list[Message]:
    client = AsyncAgentClient.local(
        Agent(TestModel(), name="nobody"),
        settings=QUICK,
        conversation=ConversationConfig(backend=url),
    )
    try:
        return await client.history(NAME)
    finally:
        await client.aclose()


async def test_a_conversation_goes_on_in_the_next_program(url: str) -> None:
    """Each process begins with no run and no token, and its run may write all the same."""
    assert say(url, "one", "two") == ["heard one", "heard one, two"]
    assert say(url, "three") == ["heard one, two, three"]
    texts = [message.text for message in await history(url)]
    assert texts == ["one", "heard one", "two", "heard one, two", "three", "heard one, two, three"]


async def test_a_run_that_died_with_its_program_does_not_stop_the_next(url: str) -> None:
    """Its messages stay, its call stays open in the history, and the model sees a result for it."""
    with saying(url, "hang") as program:
        assert program.stdout is not None
        assert program.stdout.readline().strip() == HANGS
        program.kill()
    kinds = [message.kind for message in await history(url)]
    assert kinds == [MessageKind.MESSAGE, MessageKind.TOOL_CALL]
    assert say(url, "hello?") == ["heard hang, hello?"]
    assert [message.kind for message in await history(url)] == [
        MessageKind.MESSAGE,
        MessageKind.TOOL_CALL,
        MessageKind.MESSAGE,
        MessageKind.MESSAGE,
    ]


async def test_a_program_watches_what_another_one_does(url: str) -> None:
    """Messages come while the other one runs."""
    config = ConversationConfig(backend=url)
    agent = Agent(TestModel(), name="nobody")
    async with AsyncAgentClient.local(agent, settings=QUICK, conversation=config) as client:
        watching = client.watch_conversation(NAME)
        with saying(url, "hang"):
            async with asyncio.timeout(30):
                kinds = [(await anext(watching)).kind for _ in range(2)]
        await watching.aclose()
    assert kinds == [MessageKind.MESSAGE, MessageKind.TOOL_CALL]


async def test_a_rollback_is_durable_and_told(url: str) -> None:
    """The run's messages are gone from the disk, and watchers hear of it."""
    is_waiting = asyncio.Event()
    patient = Agent(TestModel(), name="patient")

    @patient.tool_plain
    async def wait() -> str:
        is_waiting.set()
        await asyncio.Event().wait()
        return ""

    agents = [patient, Agent(TestModel(custom_output_text="yes"), name="clerk")]
    config = ConversationConfig(backend=url)
    changes: list[object] = []
    async with AsyncAgentClient.local(*agents, settings=QUICK, conversation=config) as client:
        watching = client.watch_changes(NAME)
        await client.submit("patient", "first", conversation_id=NAME)
        await is_waiting.wait()
        changes += [await anext(watching) for _ in range(2)]
        run = await client.submit("clerk", "second", conversation_id=NAME, on_busy="rollback")
        assert await run.output(timeout_s=20) == "yes"
        async with asyncio.timeout(10):
            changes += [await anext(watching) for _ in range(3)]
        await watching.aclose()
    assert isinstance(changes[2], RemovedEvent)
    assert [message.text for message in await history(url)] == ["second", "yes"]


def test_the_blocking_client_keeps_histories_too(url: str) -> None:
    """It is built in one thread, and its event loop runs in another one."""
    config = ConversationConfig(backend=url)
    for number in range(1, 3):
        agent = Agent(TestModel(custom_output_text="yes"), name="clerk")
        with AgentClient.local(agent, settings=QUICK, conversation=config) as client:
            assert client.submit("clerk", "hello", conversation_id=NAME).output() == "yes"
            assert len(client.history(NAME)) == 2 * number
