"""A client of the system under test, the scripts that it plays, and who plays them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pytest_celery import CeleryWorkerCluster

from agent_client import AsyncAgentClient
from shared.settings import Settings
from tests.celery_nodes.local import WorkerNode
from tests.traces import executions
from tests.waiting import eventually

STARTED_S = 40.0


@pytest.fixture
async def client(
    agents_settings: Settings, celery_worker_cluster: CeleryWorkerCluster
) -> AsyncIterator[AsyncAgentClient]:
    """A client of two worker processes that serve `tests.agents`."""
    async with AsyncAgentClient(agents_settings) as client:
        yield client


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
