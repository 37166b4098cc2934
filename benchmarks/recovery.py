"""How long runs stand still when their worker is killed, and when it is told to stop.

    python -m benchmarks.recovery [--kills 20] [--stops 20] [--runs 20] [--format json]

Two workers at default settings. Again and again, one of them gets kill -9 (or SIGTERM) while it
executes runs; measured is the time from the signal until the agent of each of its runs is at work
in another process. The exit code says whether 95 of 100 runs were within the promised 6 s.
"""

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from agent_client import AsyncAgentClient, AsyncRun
from agent_worker.testing import WorkerProcess
from benchmarks.quantile import quantile
from benchmarks.recovery_agents import STARTS
from benchmarks.system import System, run_system

WORKERS: Final = 2
PROMISED_S: Final = 6.0
GIVE_UP_S: Final = 60.0
POLL_S: Final = 0.01


@dataclass(frozen=True)
class Figures:
    """What one signal did, over all its repetitions. Times in seconds."""

    signal: str
    signals: int
    runs: int
    """Runs that the signalled workers had."""
    p50_s: float
    p95_s: float
    max_s: float
    exit_max_s: float
    """From the signal to the end of the process."""


class Starts:
    """The file that the agents write to."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of_attempt(self, attempt: int, runs: Sequence[AsyncRun]) -> dict[str, dict[str, Any]]:
        """By run: where and when that attempt started, as far as they have."""
        wanted = {run.id for run in runs}
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        entries = [json.loads(line) for line in lines]
        return {
            each["run"]: each
            for each in entries
            if each["run"] in wanted and each["attempt"] == attempt
        }

    async def wait(self, attempt: int, runs: Sequence[AsyncRun]) -> dict[str, dict[str, Any]]:
        """Wait until that attempt of all these runs has started."""
        async with asyncio.timeout(GIVE_UP_S):
            while len(found := self.of_attempt(attempt, runs)) < len(runs):  # noqa: ASYNC110
                await asyncio.sleep(POLL_S)  # another process writes it
        return found


async def measure_once(
    system: System, starts: Starts, number: signal.Signals, count: int
) -> tuple[list[float], float]:
    """Signal the worker with the most runs; return their pauses, and how long it took to end."""
    async with AsyncAgentClient(system.settings) as client:
        runs = [await client.submit("waiting", "") for _ in range(count)]
        first = await starts.wait(1, runs)
        pids = [each["pid"] for each in first.values()]
        victim = next(each for each in system.workers if each.pid == statistics.mode(pids))
        taken = [run for run in runs if first[run.id]["pid"] == victim.pid]
        signalled = time.time()
        victim.send(number)
        ended = asyncio.create_task(_wait_ended(victim, signalled))
        resumed = await starts.wait(2, taken)
        exit_s = await ended
        for run in runs:
            await run.cancel()
        for run in runs:
            await run.result(GIVE_UP_S)
    await asyncio.to_thread(lambda: victim.start().wait_ready())
    return [each["at"] - signalled for each in resumed.values()], exit_s


async def _wait_ended(worker: WorkerProcess, since: float) -> float:
    while worker.is_running:  # noqa: ASYNC110  another process ends
        await asyncio.sleep(POLL_S)
    return time.time() - since


def measure(kills: int, stops: int, runs: int, bar: Progress) -> list[Figures]:
    """Start everything, measure, stop everything."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "starts.jsonl"
        environment = {STARTS: str(path)}
        with run_system(
            "benchmarks.recovery_agents", workers=WORKERS, environment=environment
        ) as system:
            for number, times in ((signal.SIGKILL, kills), (signal.SIGTERM, stops)):
                pauses: list[float] = []
                exits: list[float] = []
                for _ in bar.track(range(times), description=number.name):
                    more, exit_s = asyncio.run(measure_once(system, Starts(path), number, runs))
                    pauses += more
                    exits.append(exit_s)
                if pauses:
                    figures.append(_summed_up(number, times, pauses, exits))
    return figures


def _summed_up(
    number: signal.Signals, times: int, pauses: Sequence[float], exits: Sequence[float]
) -> Figures:
    return Figures(
        signal=number.name,
        signals=times,
        runs=len(pauses),
        p50_s=quantile(pauses, 0.5),
        p95_s=quantile(pauses, 0.95),
        max_s=max(pauses),
        exit_max_s=max(exits),
    )


def _table(figures: Sequence[Figures]) -> Table:
    table = Table("signal", "times", "runs", "p50", "p95", "max", "process ended after")
    for each in figures:
        times = (each.p50_s, each.p95_s, each.max_s, each.exit_max_s)
        counts = (str(each.signals), str(each.runs))
        table.add_row(each.signal, *counts, *(f"{value:.2f} s" for value in times))
    return table


def main() -> int:
    """Run from the command line; the exit code says whether the promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--runs", type=int, default=20, help="runs in flight at each signal")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    console = Console(stderr=options.format == "json")
    with Progress(console=console, transient=True) as bar:
        figures = measure(options.kills, options.stops, options.runs, bar)
    if options.format == "json":
        json.dump([asdict(each) for each in figures], sys.stdout, indent=2)
    else:
        console.print(_table(figures))
    return 0 if all(each.p95_s <= PROMISED_S for each in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
