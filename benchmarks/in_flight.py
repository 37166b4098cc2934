"""Many runs in flight in one worker process, all of them waiting for a slow model.

    python -m benchmarks.in_flight [--runs 1000] [--latency-s 10] [--format json]

Every run has two rounds with a tool call between them; every message is stored, every run is
watched. Ideal is two answers of the model, one after the other, with nothing added. The bare loop,
measured right before, is the same agent in one process that stores nothing and shows nobody.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import Progress

from agent_client import AsyncAgentClient, RunStatus
from benchmarks.in_flight_agents import LATENCY, MODEL_URL
from benchmarks.memory import peak_mib, resident_mib
from benchmarks.system import REPOSITORY, System, run_system
from tests.model_server import ModelServerProcess

ROUNDS = 2
MESSAGES = 4
RESULT_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Figures:
    """What was measured."""

    runs: int
    completed: int
    messages_watched: int
    max_in_flight: int
    """The most requests that the model server had open at once."""
    wall_s: float
    ideal_s: float
    bare_s: float
    """Wall time of the bare loop."""
    idle_mib: float
    """Resident memory of the worker before the first run."""
    peak_mib: float
    bare_kib_per_run: float

    @property
    def ratio_to_bare(self) -> float:
        """Wall time over that of the bare loop: what durability and watching cost."""
        return self.wall_s / self.bare_s

    @property
    def ratio(self) -> float:
        """Wall time over ideal; 1 is perfect."""
        return self.wall_s / self.ideal_s

    @property
    def kib_per_run(self) -> float:
        """What a run in flight costs."""
        return (self.peak_mib - self.idle_mib) * 1024 / self.runs


async def drive(system: System, runs: int, progress: Progress) -> tuple[int, int]:
    """Submit and watch all runs; return how many completed and how many messages were seen."""
    task = progress.add_task("runs", total=runs)

    async def one(client: AsyncAgentClient) -> tuple[bool, int]:
        run = await client.submit("patient", "What is tea?")
        seen = [message async for message in run.watch()]
        outcome = await run.result(timeout_s=RESULT_TIMEOUT_S)
        progress.advance(task)
        return outcome.status is RunStatus.COMPLETED, len(seen)

    async with AsyncAgentClient(system.settings) as client:
        results = await asyncio.gather(*(one(client) for _ in range(runs)))
    return sum(done for done, _ in results), sum(seen for _, seen in results)


def measure(runs: int, latency_s: float, console: Console) -> Figures:
    """Start everything, run, stop everything."""
    with ModelServerProcess() as server:
        environment = {
            MODEL_URL: server.base_url,
            LATENCY: str(latency_s),
            "AGENTS_CONCURRENCY": str(runs),
        }
        bare = _run_bare(runs, environment)
        before = server.stats()
        with run_system("benchmarks.in_flight_agents", environment=environment) as system:
            pid = system.workers[0].pid
            idle = resident_mib(pid)
            with Progress(console=console, transient=True) as progress:
                started = time.perf_counter()
                completed, seen = asyncio.run(drive(system, runs, progress))
                wall = time.perf_counter() - started
            peak = peak_mib(pid)
        counts = server.stats()
    if counts.requests - before.requests != ROUNDS * runs:
        raise RuntimeError(f"{counts.requests - before.requests} model calls for {runs} runs")
    return Figures(
        runs=runs,
        completed=completed,
        messages_watched=seen,
        max_in_flight=counts.max_in_flight,
        wall_s=wall,
        ideal_s=ROUNDS * latency_s,
        idle_mib=idle,
        peak_mib=peak,
        bare_s=bare["wall_s"],
        bare_kib_per_run=(bare["peak_mib"] - bare["idle_mib"]) * 1024 / runs,
    )


def _run_bare(runs: int, environment: Mapping[str, str]) -> dict[str, float]:
    finished = subprocess.run(  # noqa: S603  this project's own module
        [sys.executable, "-m", "benchmarks.bare_loop", str(runs)],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    figures: dict[str, float] = json.loads(finished.stdout)
    return figures


def main() -> int:
    """Run from the command line; the exit code says whether every run completed and was seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.in_flight", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--latency-s", type=float, default=10.0)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    console = Console(stderr=options.format == "json")
    figures = measure(options.runs, options.latency_s, console)
    if options.format == "json":
        names = ("ratio", "ratio_to_bare", "kib_per_run")
        extra = {name: getattr(figures, name) for name in names}
        json.dump(asdict(figures) | extra, sys.stdout, indent=2)
    else:
        console.print(
            f"{figures.completed} of {figures.runs} runs completed, {figures.messages_watched} "
            f"messages watched, at most {figures.max_in_flight} requests open at once\n"
            f"wall {figures.wall_s:.2f} s, ideal {figures.ideal_s:.2f} s, "
            f"ratio {figures.ratio:.2f}; bare loop {figures.bare_s:.2f} s, "
            f"ratio {figures.ratio_to_bare:.2f}\n"
            f"worker: {figures.idle_mib:.0f} MiB idle, {figures.peak_mib:.0f} MiB at its peak, "
            f"{figures.kib_per_run:.0f} KiB for each run in flight "
            f"(bare loop {figures.bare_kib_per_run:.0f} KiB)",
            highlight=False,
        )
    whole = figures.completed == figures.runs
    return 0 if whole and figures.messages_watched == MESSAGES * figures.runs else 1


if __name__ == "__main__":
    sys.exit(main())
