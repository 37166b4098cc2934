"""The systems of the acceptance tests, with their histories in PostgreSQL.

Fixtures of the folders above are replaced by name; tests that are imported from there do not know.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryWorkerCluster

from shared.settings import Settings
from tests.celery_nodes import fixtures
from tests.celery_nodes.fixtures import LocalSystem, run_local_system
from tests.faulty import FaultySystem, run_faulty_system
from tests.topologies.postgres import PostgresServer, run_postgres


@pytest.fixture(scope="session")
def histories_server() -> Iterator[PostgresServer]:
    """A server that tests may stop, kill and freeze. It is put right before the next one."""
    with run_postgres() as server:
        yield server


@pytest.fixture
def histories(histories_server: PostgresServer) -> PostgresServer:
    """The server with all histories, serving."""
    histories_server.thaw()
    if not histories_server.is_running:
        histories_server.start()
    return histories_server


@pytest.fixture(scope="session")
def local_system(
    tmp_path_factory: pytest.TempPathFactory, histories_server: PostgresServer
) -> Iterator[LocalSystem]:
    yield from run_local_system(
        tmp_path_factory.mktemp("system-with-postgres"),
        {
            "AGENTS_CONVERSATION_URL": histories_server.url,
            # Well below the lease, so that a worker repeats a write before its runs are taken away.
            "AGENTS_CONVERSATION_TIMEOUT_S": "2",
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
def agents_settings(agents_settings: Settings, histories: PostgresServer) -> Settings:
    return agents_settings.model_copy(update={"conversation_url": SecretStr(histories.url)})


@pytest.fixture(scope="session")
def faulty_system(
    tmp_path_factory: pytest.TempPathFactory, histories_server: PostgresServer
) -> Iterator[FaultySystem]:
    folder = tmp_path_factory.mktemp("faulty-with-postgres")
    modules = ("tests.agents", "tests.chat_agents", "tests.deadly_agents")
    with run_faulty_system(folder, *modules, histories=histories_server) as system:
        yield system
