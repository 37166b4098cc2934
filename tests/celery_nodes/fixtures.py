"""The clusters of a test: pytest-celery's fixtures over local processes.

Two Redis servers, one the broker and one the store, and two workers. Where a container engine runs,
pytest-celery's own containers stand behind broker and backend; elsewhere processes do. The workers
are processes of this checkout in both cases, since it is this code that is under test.
"""

import os
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pytest_celery import CeleryBackendCluster, CeleryBrokerCluster, CeleryWorkerCluster

from agent_worker.testing import WorkerProcess
from shared.embedded_redis import find_redis_server
from shared.settings import Settings
from tests.celery_nodes.local import BackendNode, BrokerNode, LocalRedis, LocalWorker, WorkerNode
from tests.services import missing
from tests.traces import FOLDER

WORKERS = 2
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Where the test agents' tools leave their traces; see `tests.agents`."""
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


@pytest.fixture
def celery_broker_cluster(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[CeleryBrokerCluster]:
    """One Redis that only carries rings."""
    if container_engine_runs():
        yield CeleryBrokerCluster(request.getfixturevalue("celery_redis_broker"))
        return
    node = BrokerNode(_local_redis(tmp_path, "broker"))
    yield CeleryBrokerCluster(node)
    node.teardown()


@pytest.fixture
def celery_backend_cluster(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[CeleryBackendCluster]:
    """One Redis that keeps runs and conversations."""
    if container_engine_runs():
        yield CeleryBackendCluster(request.getfixturevalue("celery_redis_backend"))
        return
    node = BackendNode(_local_redis(tmp_path, "store"))
    yield CeleryBackendCluster(node)
    node.teardown()


@pytest.fixture
def agents_environment(
    celery_broker_cluster: CeleryBrokerCluster,
    celery_backend_cluster: CeleryBackendCluster,
    traces: Path,
) -> dict[str, str]:
    """The environment of the workers of this test."""
    return {
        "AGENTS_REDIS_URL": celery_backend_cluster[0].config()["host_url"],
        "AGENTS_BROKER_URL": celery_broker_cluster[0].config()["host_url"],
        FOLDER: str(traces),
    }


@pytest.fixture
def agents_settings(agents_environment: dict[str, str]) -> Settings:
    """The settings for clients of this test's system."""
    return Settings.model_validate(
        {
            "redis_url": agents_environment["AGENTS_REDIS_URL"],
            "broker_url": agents_environment["AGENTS_BROKER_URL"],
        }
    )


@pytest.fixture
def celery_worker_cluster(
    agents_environment: dict[str, str], tmp_path: Path
) -> Iterator[CeleryWorkerCluster]:
    """Two worker processes that serve `tests.agents`."""
    nodes = [
        WorkerNode(
            LocalWorker(
                WorkerProcess(
                    "tests.agents",
                    environment=agents_environment,
                    cwd=REPOSITORY,
                    log_path=tmp_path / f"worker-{number}.log",
                ),
                f"worker-{number}",
            ),
            Celery("test", set_as_current=False),
        )
        for number in range(WORKERS)
    ]
    cluster = CeleryWorkerCluster(*nodes)
    cluster.ready()
    yield cluster
    for node in nodes:
        node.teardown()


@pytest.fixture
def celery_worker_cluster_config(
    celery_broker_cluster: CeleryBrokerCluster, celery_backend_cluster: CeleryBackendCluster
) -> dict[str, Any]:
    """Where broker and store are; there is no Celery result backend, results are in the ledger."""
    return {"celery_broker_cluster_config": celery_broker_cluster.config()}


@cache
def container_engine_runs() -> bool:
    """Whether a container engine answers here, or is named by DOCKER_HOST."""
    if os.environ.get("DOCKER_HOST"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex("/var/run/docker.sock") == 0


def _local_redis(folder: Path, name: str) -> LocalRedis:
    if find_redis_server() is None:
        missing("No redis-server or valkey-server on the PATH and no celery-agents[embedded].")
    return LocalRedis(folder / name, name)
