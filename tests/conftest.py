"""Fixtures that several folders of tests use."""

from collections.abc import Iterator

import pytest

from tests.celery_nodes.fixtures import (
    agents_settings,
    celery_backend_cluster,
    celery_broker_cluster,
    celery_worker_cluster,
    celery_worker_cluster_config,
    local_system,
    traces,
)
from tests.topologies.postgres import PostgresServer, run_postgres

__all__ = [
    "agents_settings",
    "celery_backend_cluster",
    "celery_broker_cluster",
    "celery_worker_cluster",
    "celery_worker_cluster_config",
    "local_system",
    "traces",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: begun last, they would go on alone when all others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for the session; whoever stops or freezes it puts it right."""
    with run_postgres() as server:
        yield server
