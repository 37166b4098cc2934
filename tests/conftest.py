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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for the session; whoever stops or freezes it puts it right."""
    with run_postgres() as server:
        yield server
