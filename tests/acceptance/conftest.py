"""A client of the system under test, and the scripts that it plays."""

import json
from collections.abc import AsyncIterator

import pytest
from pytest_celery import CeleryWorkerCluster

from agent_client import AsyncAgentClient
from shared.settings import Settings


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
