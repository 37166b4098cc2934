"""A system whose workers come and go: for tests of deploys.

Leases last ten minutes, longer than any test. So a run that goes on elsewhere was handed over: no
other mechanism could have given it away by then.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent_worker.testing import WorkerProcess
from shared.embedded_redis import EmbeddedRedis, find_redis_server
from shared.settings import Settings
from tests.celery_nodes.fixtures import REPOSITORY
from tests.services import missing
from tests.traces import FOLDER

LEASE_S: Final = 600.0
NEWER_RELEASE: Final = ("tests.newer_release",)
LEAVE_S: Final = 5.0
"""What a worker may take to leave, besides the grace of its tools: the promise's own bound. Where
nothing hangs it takes one or two."""
SLACK_S: Final = 5.0
"""For machines that do something else meanwhile."""


@dataclass
class Deployment:
    """One Redis that rings, one that remembers, and the workers that were started."""

    broker: EmbeddedRedis
    store: EmbeddedRedis
    folder: Path
    lease_s: float = LEASE_S
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """For clients of this system."""
        return Settings.model_validate({"redis_url": self.store.url, "broker_url": self.broker.url})

    @property
    def traces(self) -> Path:
        """Where tools leave their traces."""
        return self.folder / "traces"

    def start(
        self,
        *,
        grace_s: float = 1.0,
        is_newer: bool = False,
        processes: int = 1,
        **settings: Any,
    ) -> WorkerProcess:
        """Start a worker, of a newer release if asked for; does not wait for it."""
        own = {f"AGENTS_{name}".upper(): str(value) for name, value in settings.items()}
        worker = WorkerProcess(
            "tests.agents",
            "tests.courier_agents",
            environment={
                "AGENTS_REDIS_URL": self.store.url,
                "AGENTS_BROKER_URL": self.broker.url,
                "AGENTS_LEASE_S": str(self.lease_s),
                "AGENTS_HANDOVER_GRACE_S": str(grace_s),
                FOLDER: str(self.traces),
                **own,
            },
            cwd=REPOSITORY,
            log_path=self.folder / f"worker-{len(self.workers)}.log",
            program=(*(NEWER_RELEASE if is_newer else ()), "agent_worker.cli"),
            processes=processes,
        )
        self.workers.append(worker)
        return worker.start()

    async def add(self, **options: Any) -> WorkerProcess:
        """Start a worker, as `start` does, and wait until it is ready."""
        worker = self.start(**options)
        return await asyncio.to_thread(worker.wait_ready)

    def stop(self) -> None:
        """End everything that was started."""
        for worker in self.workers:
            worker.kill()
        for server in (self.broker, self.store):
            server.kill()  # it may be frozen, and would not hear of anything else


@contextmanager
def deploy(folder: Path, *, lease_s: float = LEASE_S) -> Iterator[Deployment]:
    """A system without workers, for the length of the block."""
    if find_redis_server() is None:
        missing("No redis-server or valkey-server on the PATH and no celery-agents[embedded].")
    broker, store = EmbeddedRedis(folder / "broker"), EmbeddedRedis(folder / "store")
    system = Deployment(broker, store, folder, lease_s)
    system.traces.mkdir()
    try:
        broker.start()
        store.start()
        yield system
    finally:
        system.stop()


async def left(worker: WorkerProcess, *, grace_s: float, slack_s: float = SLACK_S) -> float:
    """Wait until a worker that was told to leave has done so, with exit code 0; how long it took.

    Called right after the signal.
    """
    started = time.monotonic()
    code = await asyncio.to_thread(worker.wait, grace_s + 3 * LEAVE_S)
    took = time.monotonic() - started
    assert code == 0, f"exit code {code}; its log ends with {worker.log()[-2000:]}"
    assert took <= grace_s + LEAVE_S + slack_s, f"gone after {took:.1f} s"
    return took
