"""How long it takes until a run that is cancelled has ended.

    python -m benchmarks.cancel [--runs 100] [--workers 2] [--format json]

From the call of `cancel` to the answer of `result`, for runs that wait behind another one and for
runs in a model call, an async tool and a sync tool; one run after the other, and then all of them
at once. The runs of each row go on together, so a cancel finds workers that have others to lead.
Exit code 1 if one took longer than the second that is promised.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from agent_client import AsyncAgentClient, AsyncRun, RunStatus
from benchmarks.cancel_agents import ASYNC_TOOL, MODEL_CALL, MODEL_URL, SYNC_TOOL
from benchmarks.system import System, run_system
from tests.model_server import ModelServerProcess

QUEUED = "queued"
PROMISED_S = 1.0
RESULT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Row:
    """Latencies in one place, in milliseconds."""

    place: str
    is_burst: bool
    """Whether all runs were cancelled at once."""
    runs: int
    p50_ms: float
    p95_ms: float
    max_ms: float

    @classmethod
    def of(cls, place: str, latencies_s: Sequence[float], *, is_burst: bool) -> "Row":
        """Sum latencies up."""
        ordered = sorted(1000 * each for each in latencies_s)
        p95 = statistics.quantiles(ordered, n=20, method="inclusive")[-1]
        middle = statistics.median(ordered)
        return cls(place, is_burst, len(ordered), middle, p95, ordered[-1])


async def measure(system: System, runs: int, console: Console) -> list[Row]:
    """All rows, one after the other."""
    rows = []
    async with AsyncAgentClient(system.settings) as client:
        for place in (QUEUED, MODEL_CALL, ASYNC_TOOL, SYNC_TOOL):
            for is_burst in (False, True):
                with console.status(f"{place}, {'all at once' if is_burst else 'one by one'}"):
                    waiting = await _bring_to(client, place, runs)
                    rows.append(
                        Row.of(place, await _stop(waiting, is_burst=is_burst), is_burst=is_burst)
                    )
    return rows


async def _bring_to(client: AsyncAgentClient, place: str, count: int) -> list[AsyncRun]:
    """Runs that are where they shall be cancelled."""
    if place != QUEUED:
        return await asyncio.gather(*(_start(client, place) for _ in range(count)))
    name = f"line-{time.monotonic_ns()}"
    await _start(client, ASYNC_TOOL, name)
    return [
        await client.submit(
            "stoppable", "wait", conversation_id=name, metadata={"place": ASYNC_TOOL}
        )
        for _ in range(count)
    ]


async def _start(client: AsyncAgentClient, place: str, name: str | None = None) -> AsyncRun:
    run = await client.submit("stoppable", "wait", conversation_id=name, metadata={"place": place})
    last = "user" if place == MODEL_CALL else "assistant"
    async for message in run.watch():
        if message.role == last:
            break
    return run


async def _stop(runs: Sequence[AsyncRun], *, is_burst: bool) -> list[float]:
    if is_burst:
        return await asyncio.gather(*map(_cancel, runs))
    return [await _cancel(run) for run in runs]


async def _cancel(run: AsyncRun) -> float:
    waiting = asyncio.create_task(run.result(timeout_s=RESULT_TIMEOUT_S))
    started = time.perf_counter()
    await run.cancel()
    outcome = await waiting
    latency = time.perf_counter() - started
    if outcome.status is not RunStatus.CANCELLED:
        raise RuntimeError(f"{run.id} ended {outcome.status}")
    return latency


def _print(rows: Sequence[Row], console: Console) -> None:
    table = Table("where", "cancelled", "runs", "p50", "p95", "max", title="cancel to end, in ms")
    for row in rows:
        figures = (f"{each:.1f}" for each in (row.p50_ms, row.p95_ms, row.max_ms))
        how = "all at once" if row.is_burst else "one by one"
        table.add_row(row.place, how, str(row.runs), *figures)
    console.print(table)


def main() -> int:
    """Run from the command line; the exit code says whether the promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancel", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=100, help="in each row (100)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    console = Console(stderr=options.format == "json")
    with (
        ModelServerProcess() as server,
        run_system(
            "benchmarks.cancel_agents",
            workers=options.workers,
            environment={MODEL_URL: server.base_url, "AGENTS_CONCURRENCY": str(2 * options.runs)},
        ) as system,
    ):
        rows = asyncio.run(measure(system, options.runs, console))
    if options.format == "json":
        json.dump([asdict(row) for row in rows], sys.stdout, indent=2)
    else:
        _print(rows, console)
    return 0 if all(row.max_ms <= 1000 * PROMISED_S for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
