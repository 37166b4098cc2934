"""A client over stores in memory, and a worker moved by hand."""

from collections.abc import AsyncIterator

import pytest

from agent_client import AsyncAgentClient, AsyncRun, Settings
from shared.backend import Backend
from shared.memory_backend import build_memory_backend
from tests.unit.client.puppet import AGENT, Doorbell, Puppet


@pytest.fixture
def settings() -> Settings:
    return Settings(max_input_bytes=1000, max_metadata_bytes=200)


@pytest.fixture
async def backend(settings: Settings) -> AsyncIterator[Backend]:
    backend = build_memory_backend(settings)
    yield backend
    await backend.aclose()


@pytest.fixture
def doorbell() -> Doorbell:
    return Doorbell()


@pytest.fixture
async def puppet(backend: Backend) -> Puppet:
    """A live worker."""
    puppet = Puppet(backend)
    await puppet.beat()
    return puppet


@pytest.fixture
async def client(
    settings: Settings, backend: Backend, doorbell: Doorbell
) -> AsyncIterator[AsyncAgentClient]:
    async with AsyncAgentClient(
        settings, backend=backend, dispatcher=doorbell, reconnect_s=2.0
    ) as client:
        yield client


@pytest.fixture
async def run(client: AsyncAgentClient, puppet: Puppet) -> AsyncRun:
    """A run that waits for a worker."""
    return await client.submit(AGENT, "hello", conversation_id="web:ada")


@pytest.fixture(autouse=True)
def log_set_up_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The set-up of logging is the process's, and in a test that is pytest's."""
    monkeypatch.setattr("shared.log.configure_logging", lambda *_: None)
