"""The site: two Redis servers (or one, and RabbitMQ), a model server, and the workers."""

import asyncio
import os
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_worker.testing import WorkerProcess
from benchmarks.chaos.broker import Queue, RabbitQueue, RedisQueue
from benchmarks.chaos.journal import PATH
from benchmarks.chaos.relay import Relay
from benchmarks.replay_agents import MODEL_URL, RECORDINGS
from benchmarks.system import REPOSITORY
from shared.embedded_redis import EmbeddedRedis
from shared.settings import Settings
from tests.model_server import ModelServerProcess

MAX_CRASHES: Final = 1000
"""No run ends `worker_lost` by bad luck here: with so many kills some would lose three workers."""
START_S: Final = 60.0
"""How long a worker may take to be ready on a machine that is busy with being harmed."""

_WORKER_ID: Final = re.compile(r'"worker_id": "([^"]+)"')


class Worker:
    """A worker process, and whether a fault may have it."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.state = "starting"
        """``up`` is the one in which it can be harmed; the others are for the view."""

    async def start(self) -> None:
        """Start it and wait until it takes runs."""
        self.state = "starting"
        self.process.start()
        await asyncio.to_thread(self.process.wait_ready, START_S)
        self.state = "up"

    async def read_id(self) -> str | None:
        """The id under which it works since its last start, from its log."""
        log = await asyncio.to_thread(self.process.log, since_start=True)
        for line in log.splitlines():
            if '"worker.started"' in line and (found := _WORKER_ID.search(line)):
                return found[1]
        return None


@dataclass
class Site:
    """Where everything is."""

    settings: Settings
    folder: Path
    store: EmbeddedRedis
    broker: EmbeddedRedis | None
    """None: it is not ours, and reached through `relay`."""
    relay: Relay | None
    queue: Queue
    workers: list[Worker]
    environment: Mapping[str, str]
    store_is_away: asyncio.Event = field(default_factory=asyncio.Event)
    broker_is_away: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def journal(self) -> Path:
        """What tools and models leave."""
        return self.folder / "journal.jsonl"

    @property
    def log_paths(self) -> list[Path]:
        """What the workers leave."""
        return sorted(self.folder.glob("worker-*.log"))


@contextmanager
def open_site(
    folder: Path, *, workers: int, broker_url: str | None, recordings: Path | None
) -> Iterator[Site]:
    """Start everything but the workers; stop everything at the end.

    Settings are the defaults, whatever the environment says: those are what is being tried.
    """
    _forget_settings()
    prefix = f"chaos-{os.getpid()}"
    with ExitStack() as stack:
        # Written through with every command: what it acknowledged survives a kill.
        durable = {"appendfsync": "always"}
        store = stack.enter_context(EmbeddedRedis(folder / "store", options=durable))
        stack.callback(_thaw, store)
        broker, relay = None, None
        if broker_url is None:
            broker = stack.enter_context(EmbeddedRedis(folder / "broker"))
            url = broker.url
        else:
            relay = stack.enter_context(Relay(broker_url))
            url = relay.url
        settings = Settings.model_validate(
            {"redis_url": store.url, "broker_url": url, "key_prefix": prefix}
        )
        queue: Queue = (
            RedisQueue(settings) if broker_url is None else RabbitQueue(settings, broker_url)
        )
        stack.callback(queue.remove)
        environment = {
            "AGENTS_REDIS_URL": store.url,
            "AGENTS_BROKER_URL": url,
            "AGENTS_KEY_PREFIX": prefix,
            "AGENTS_MAX_CRASHES": str(MAX_CRASHES),
            PATH: str(folder / "journal.jsonl"),
        }
        if recordings is not None:
            server = stack.enter_context(ModelServerProcess([recordings]))
            environment |= {RECORDINGS: str(recordings), MODEL_URL: server.base_url}
        site = Site(settings, folder, store, broker, relay, queue, [], environment)
        site.workers += [_make_worker(folder, number, environment) for number in range(workers)]
        stack.callback(_stop_workers, site.workers)
        yield site


def _make_worker(folder: Path, number: int, environment: Mapping[str, str]) -> Worker:
    return Worker(
        WorkerProcess(
            "benchmarks.chaos.agents",
            environment=environment,
            cwd=REPOSITORY,
            log_path=folder / f"worker-{number}.log",
        )
    )


def _forget_settings() -> None:
    for name in list(os.environ):
        if name.startswith("AGENTS_"):
            del os.environ[name]


def _thaw(server: EmbeddedRedis) -> None:
    """A server that stands would not hear that it shall stop."""
    if server.is_running:
        os.kill(server.pid, signal.SIGCONT)


def _stop_workers(workers: Sequence[Worker]) -> None:
    """All at once: one after the other, the last would wait for the grace of all others."""
    for worker in workers:
        worker.process.thaw()
        worker.process.terminate()
    for worker in workers:
        worker.process.stop()
