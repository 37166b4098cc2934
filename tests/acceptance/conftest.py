"""A client of the system under test, the scripts that it plays, and who plays them."""

import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from pydantic import JsonValue
from pytest_celery import CeleryWorkerCluster

from agent_client import AsyncAgentClient, Message
from shared.openai_chat import to_openai
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.celery_nodes.local import WorkerNode
from tests.faulty import FaultySystem, run_faulty_system
from tests.model_server import Answer, ModelServer, create_app, script_model, tool_call
from tests.model_server.pairing import find_refusals
from tests.traces import executions

STARTED_S = 40.0


@pytest.fixture
async def client(
    agents_settings: Settings, celery_worker_cluster: CeleryWorkerCluster
) -> AsyncIterator[AsyncAgentClient]:
    """A client of two worker processes that serve `tests.agents`."""
    async with AsyncAgentClient(agents_settings) as client:
        yield client


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    """The provider of the agent `chat`; it keeps what it was asked."""
    with ModelServer(create_app(keep_requests=100_000)) as server:
        yield server


def scene(server: ModelServer, model: str, *, inner: str = "") -> dict[str, JsonValue]:
    """The metadata of a run of the agent `chat` whose provider is this server."""
    return {"url": server.base_url, "model": model, "inner": inner}


def calling(*rounds: list[tuple[str, str]]) -> str:
    """The model that calls these tools (tool, argument), round by round, and then says `done`."""
    called = [
        Answer(calls=tuple(tool_call(name, {"name": argument}) for name, argument in each))
        for each in rounds
    ]
    return script_model(*called, Answer(text="done"))


def check_closed(messages: Sequence[Message]) -> None:
    """Assert that a history is one that every provider accepts, as it is stored."""
    assert find_refusals(to_openai(messages)) == []


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a client in another process."""
    return {
        **os.environ,
        "AGENTS_REDIS_URL": settings.redis_url.get_secret_value(),
        "AGENTS_BROKER_URL": settings.effective_broker_url,
    }


async def wait_stored(client: AsyncAgentClient, conversation_id: str, count: int) -> None:
    """Wait until a conversation has so many messages."""

    async def are_there() -> bool:
        return len(await client.history(conversation_id)) >= count

    await eventually(are_there, timeout_s=STARTED_S)


async def wait_traced(traces: Path, event: str, name: str, *, times: int = 1) -> None:
    """Wait until tools have left this trace so often."""

    async def are_there() -> bool:
        found = [(each["event"], each["name"]) for each in executions(traces)]
        return found.count((event, name)) >= times

    await eventually(are_there, timeout_s=STARTED_S)


def play(*rounds: list[tuple[str, str]]) -> str:
    """The input that makes the agent `script` play these rounds of (tool, argument)."""
    return json.dumps(rounds)


def started(traces: Path) -> list[str]:
    """The arguments of all tool calls that were started, sorted."""
    return sorted(each["name"] for each in executions(traces) if each["event"] == "start")


async def worker_at(
    name: str, workers: CeleryWorkerCluster, traces: Path, *, attempt: int = 1
) -> WorkerNode:
    """The worker that has started the tool call with the argument `name`, once one has."""

    async def pid() -> int | None:
        return next(
            (
                each["pid"]
                for each in executions(traces)
                if each["name"] == name and each["attempt"] == attempt
            ),
            None,
        )

    found = await eventually(pid, timeout_s=STARTED_S)
    worker: WorkerNode = next(each for each in workers if each.container.process.pid == found)
    return worker


@pytest.fixture(scope="session")
def faulty_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultySystem]:
    """Two workers with short leases; starting them takes seconds, so they last for the session."""
    folder = tmp_path_factory.mktemp("faulty")
    modules = ("tests.agents", "tests.chat_agents", "tests.deadly_agents")
    with run_faulty_system(folder, *modules) as system:
        yield system


@pytest.fixture
def faulty(faulty_system: FaultySystem) -> FaultySystem:
    """The system to break, put right; at least one of its workers is ready."""
    faulty_system.put_right()
    return faulty_system


@pytest.fixture
async def faulty_client(faulty: FaultySystem) -> AsyncIterator[AsyncAgentClient]:
    """A client of the system to break, on a network of its own."""
    async with AsyncAgentClient(faulty.settings) as client:
        yield client
