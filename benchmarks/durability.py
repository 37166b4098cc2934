"""What an acknowledged submit survives, for each way to run Redis.

    python -m benchmarks.durability [--kills 10]

Callers submit runs as fast as they are answered; in the middle of it the server is killed with
SIGKILL and comes back, or its replica takes its place, and every run that was acknowledged is
looked up. A killed process is not a power cut: what Redis has handed to the operating system
survives here, and is only as safe as its last fsync there.
"""

import argparse
import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from redis import Redis
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from shared.embedded_redis import EmbeddedRedis
from shared.errors import StoreUnavailableError, UnknownRunError
from shared.identifier import new_run_id
from shared.redis_backend import build_redis_backend
from shared.run import NewRun
from shared.settings import Settings

CALLERS: Final = 20
LOAD_S: Final = 0.5
"""How long runs are submitted before the kill."""
LAG_S: Final = 0.2
"""How long a replica that lags has heard nothing when its primary is killed."""


@dataclass(frozen=True)
class Scenario:
    """One way to run Redis, and what happens to it."""

    name: str
    options: Mapping[str, str]
    has_replica: bool = False
    replica_lags: bool = False
    wait_replicas: int = 0


SCENARIOS: Final = (
    Scenario("no append-only file", {"appendonly": "no"}),
    Scenario("append-only file, fsync every second", {"appendfsync": "everysec"}),
    Scenario("append-only file, fsync always", {"appendfsync": "always"}),
    Scenario("failover to a replica", {}, has_replica=True),
    Scenario("failover to a replica that lags", {}, has_replica=True, replica_lags=True),
    Scenario(
        "the same, each write waits for a replica",
        {},
        has_replica=True,
        replica_lags=True,
        wait_replicas=1,
    ),
)


@dataclass
class Figures:
    """What was counted over all kills of a scenario."""

    acknowledged: int = 0
    lost: int = 0
    kills_with_loss: int = 0
    load_s: float = 0.0

    def count(self, acknowledged: int, lost: int, load_s: float) -> None:
        """Add one kill."""
        self.acknowledged += acknowledged
        self.lost += lost
        self.kills_with_loss += lost > 0
        self.load_s += load_s


class Servers:
    """A primary, and its replica where the scenario has one."""

    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._primary = EmbeddedRedis(folder / "primary", options=scenario.options)
        self._replica = EmbeddedRedis(folder / "replica") if scenario.has_replica else None

    def __enter__(self) -> Self:
        self._primary.start()
        if self._replica is not None:
            self._replica.start()
            with Redis(port=self._replica.port, decode_responses=True) as replica:
                replica.execute_command("REPLICAOF", "127.0.0.1", self._primary.port)
                while replica.info("replication")["master_link_status"] != "up":
                    time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._primary.stop()
        if self._replica is not None:
            self._replica.stop()

    def settings(self) -> Settings:
        """How the primary is reached."""
        return self._settings_of(self._primary)

    async def kill(self) -> Settings:
        """Kill the primary; return how to reach what takes its place."""
        if self._replica is None:
            self._primary.kill()
            await asyncio.to_thread(self._primary.start)
            return self._settings_of(self._primary)
        if self._scenario.replica_lags:
            os.kill(self._replica.pid, signal.SIGSTOP)
            await asyncio.sleep(LAG_S)
            # Or it would read what its kernel holds for it, and catch up before it takes over.
            await asyncio.to_thread(self._cut_replica)
        self._primary.kill()
        if self._scenario.replica_lags:
            os.kill(self._replica.pid, signal.SIGCONT)
        with Redis(port=self._replica.port) as replica:
            replica.execute_command("REPLICAOF", "NO", "ONE")
        return self._settings_of(self._replica)

    def _cut_replica(self) -> None:
        with Redis(port=self._primary.port) as primary:
            primary.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def _settings_of(self, server: EmbeddedRedis) -> Settings:
        return Settings.model_validate(
            {"redis_url": server.url, "redis_wait_replicas": self._scenario.wait_replicas}
        )


async def submit_until(over: asyncio.Event, settings: Settings) -> list[str]:
    """Submit until told to stop; the ids of those that were acknowledged."""
    acknowledged: list[str] = []
    backend = build_redis_backend(settings)

    async def call() -> None:
        with suppress(StoreUnavailableError):
            while not over.is_set():
                new = NewRun(id=new_run_id(len(acknowledged) % 16), agent="any", input="hello")
                await backend.ledger.submit(new)
                acknowledged.append(new.id)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    await backend.aclose()
    return acknowledged


async def count_lost(run_ids: list[str], settings: Settings) -> int:
    """How many of these runs are unknown."""
    lost = 0
    backend = build_redis_backend(settings)
    for run_id in run_ids:
        try:
            await backend.ledger.get(run_id)
        except UnknownRunError:
            lost += 1
    await backend.aclose()
    return lost


async def measure_once(scenario: Scenario, figures: Figures) -> None:
    """One kill under load."""
    with (
        tempfile.TemporaryDirectory(prefix="agents-bench-") as folder,
        Servers(scenario, Path(folder)) as servers,
    ):
        over = asyncio.Event()
        started = time.perf_counter()
        load = asyncio.create_task(submit_until(over, servers.settings()))
        await asyncio.sleep(LOAD_S)
        successor = await servers.kill()
        load_s = time.perf_counter() - started
        over.set()
        acknowledged = await load
        figures.count(len(acknowledged), await count_lost(acknowledged, successor), load_s)


def main() -> int:
    """Run from the command line; fails when a setting that promises no loss has lost something."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=10, help="for each way to run Redis")
    kills = parser.parse_args().kills
    console = Console()
    table = Table("Redis", "kills", "acknowledged", "lost", "kills with loss", "submits/s")
    results: dict[str, Figures] = {}
    with Progress(console=console, transient=True) as progress:
        for scenario in SCENARIOS:
            figures = results[scenario.name] = Figures()
            for _ in progress.track(range(kills), description=scenario.name):
                asyncio.run(measure_once(scenario, figures))
            counts = (kills, figures.acknowledged, figures.lost, figures.kills_with_loss)
            rate = figures.acknowledged / figures.load_s
            table.add_row(scenario.name, *map(str, counts), f"{rate:.0f}")
    console.print(table)
    safe = ("append-only file, fsync always", "the same, each write waits for a replica")
    return int(any(results[name].lost for name in safe))


if __name__ == "__main__":
    raise SystemExit(main())
