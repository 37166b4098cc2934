"""A model server in a thread of the test process, and the recordings where there are some."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from tests.model_server import ModelServer, create_app
from tests.model_server.requirement import require_recordings
from tests.unit.model_server.sample import RECORDING


@pytest.fixture(scope="package")
def shared_server() -> Iterator[ModelServer]:
    """One server for all tests: starting and stopping takes longer than most of them."""
    app = create_app([RECORDING], retry_after_s=0.01, keep_requests=10)
    with ModelServer(app) as running:
        yield running


@pytest.fixture
def server(shared_server: ModelServer) -> ModelServer:
    """A server that knows the made-up recording, counts from 0 and remembers what it was asked."""
    shared_server.reset()
    return shared_server


@pytest.fixture
async def client(server: ModelServer) -> AsyncIterator[AsyncOpenAI]:
    """The real client, connected to that server."""
    async with AsyncOpenAI(base_url=server.base_url, api_key="unused") as connected:
        yield connected


@pytest.fixture
def recordings_folder() -> Path:
    """The folder with the recordings; without it the test is skipped."""
    return require_recordings()
