"""The clusters of a test: pytest-celery's fixtures over local processes.

Two Redis servers, one the broker and one the store, and two workers. Where a container engine runs,
pytest-celery's own containers stand behind broker and backend; elsewhere processes do. The workers
are processes of this checkout in both cases, since it is this code that is under test.

Processes take seconds to start, so local ones last for the whole session: whatever a test killed
or froze is put right before the next one.
"""

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class LocalSystem:
    """Processes that outlive a test."""

    broker: BrokerNode
    store: BackendNode
    workers: list[WorkerNode]
    traces: Path

    def put_right(self) -> None:
        """Start what is gone, thaw what is frozen, forget what tools wrote."""
        for node in (self.broker, self.store):
            node.kill(signal.SIGCONT)
            if node.container.status != "running":
                node.container.server.start()
        for worker in self.workers:
            worker.container.process.thaw()
            if worker.container.status != "running":
                worker.container.process.start()
        for worker in self.workers:
            worker.ready()
        for trace in self.traces.iterdir():  # the folder stays: runs of earlier tests may use it
            trace.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def local_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    """Two Redis processes and two workers that serve `tests.agents`."""
    yield from run_local_system(tmp_path_factory.mktemp("system"))


def run_local_system(
    folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[LocalSystem]:
    """A system with its files in `folder`, whose workers are given `environment` as well."""
    traces = folder / "traces"
    traces.mkdir()
    broker = BrokerNode(_local_redis(folder, "broker"))
    store = BackendNode(_local_redis(folder, "store"))
    environment = {
        **_environment(store.config()["url"], broker.config()["url"], traces),
        **(environment or {}),
    }
    workers = [_worker(environment, folder, number) for number in range(WORKERS)]
    yield LocalSystem(broker, store, workers, traces)
    for worker in workers:
        worker.teardown()
    broker.teardown()
    store.teardown()


@pytest.fixture
def traces(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the test agents' tools leave their traces; see `tests.agents`."""
    if container_engine_runs():
        return tmp_path
    return put_right(request).traces


@pytest.fixture
def celery_broker_cluster(request: pytest.FixtureRequest) -> CeleryBrokerCluster:
    """One Redis that only carries rings."""
    if container_engine_runs():
        return CeleryBrokerCluster(request.getfixturevalue("celery_redis_broker"))
    return CeleryBrokerCluster(put_right(request).broker)


@pytest.fixture
def celery_backend_cluster(request: pytest.FixtureRequest) -> CeleryBackendCluster:
    """One Redis that keeps runs and conversations."""
    if container_engine_runs():
        return CeleryBackendCluster(request.getfixturevalue("celery_redis_backend"))
    return CeleryBackendCluster(put_right(request).store)


@pytest.fixture
def agents_settings(
    celery_broker_cluster: CeleryBrokerCluster, celery_backend_cluster: CeleryBackendCluster
) -> Settings:
    """The settings for clients of this test's system."""
    return Settings.model_validate(
        {
            "redis_url": celery_backend_cluster[0].config()["host_url"],
            "broker_url": celery_broker_cluster[0].config()["host_url"],
        }
    )


@pytest.fixture
def celery_worker_cluster(
    request: pytest.FixtureRequest, agents_settings: Settings, traces: Path, tmp_path: Path
) -> Iterator[CeleryWorkerCluster]:
    """Two worker processes that serve `tests.agents`."""
    if not container_engine_runs():
        yield CeleryWorkerCluster(*put_right(request).workers)
        return
    store = agents_settings.redis_url.get_secret_value()
    environment = _environment(store, agents_settings.effective_broker_url, traces)
    workers = [_worker(environment, tmp_path, number) for number in range(WORKERS)]
    cluster = CeleryWorkerCluster(*workers)
    cluster.ready()
    yield cluster
    for worker in workers:
        worker.teardown()


@pytest.fixture
def celery_worker_cluster_config(
    celery_broker_cluster: CeleryBrokerCluster,
) -> dict[str, Any]:
    """Where the broker is; there is no Celery result backend, results are in the ledger."""
    return {"celery_broker_cluster_config": celery_broker_cluster.config()}


@cache
def container_engine_runs() -> bool:
    """Whether a container engine answers here, or is named by DOCKER_HOST."""
    if os.environ.get("DOCKER_HOST"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex("/var/run/docker.sock") == 0


def put_right(request: pytest.FixtureRequest) -> LocalSystem:
    """The session's system, put right once for each test."""
    system: LocalSystem = request.getfixturevalue("local_system")
    if not hasattr(request.node, "_system_is_right"):
        system.put_right()
        request.node._system_is_right = True
    return system


def _environment(store: str, broker: str, traces: Path) -> dict[str, str]:
    return {
        "AGENTS_REDIS_URL": store,
        "AGENTS_BROKER_URL": broker,
        # Well below the lease, so that a worker repeats a write before its runs are taken away.
        "AGENTS_REDIS_TIMEOUT_S": "2",
        FOLDER: str(traces),
    }


def _worker(environment: dict[str, str], folder: Path, number: int) -> WorkerNode:
    process = WorkerProcess(
        "tests.agents",
        "tests.chat_agents",
        environment=environment,
        cwd=REPOSITORY,
        log_path=folder / f"worker-{number}.log",
    )
    app = Celery("test", set_as_current=False)
    return WorkerNode(LocalWorker(process, f"worker-{number}"), app)


def _local_redis(folder: Path, name: str) -> LocalRedis:
    if find_redis_server() is None:
        missing("No redis-server or valkey-server on the PATH and no celery-agents[embedded].")
    return LocalRedis(folder / name, name)
