"""One long run on a broker that does not wait that long.

    python -m benchmarks.long_run [--minutes 3] [--visibility-timeout 20] [--format json]

The broker is Redis, and offers a message again that was not acknowledged within the visibility
timeout. Two workers are there to take it. The run has to be executed once: one attempt, each model
call once, each tool once. Beside it a plain Celery task of the same length, acknowledged when it is
through, shows that the broker does what is said: it is started more than once.

Kombu looks for such messages every 100 seconds; a run shorter than that and the timeout proves
nothing. Exit code 1 if the run was not executed once, or if the plain task was.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from redis import Redis
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from agent_client import AsyncAgentClient
from benchmarks.long_run_agents import (
    BROKER,
    EXECUTIONS,
    PLAIN,
    STEP_S,
    VISIBILITY,
    plain_app,
)
from benchmarks.system import REPOSITORY, System, run_system
from shared.embedded_redis import EmbeddedRedis
from shared.run import RunStatus

WORKERS: Final = 2


@dataclass
class Report:
    """What was seen."""

    minutes: float
    visibility_timeout_s: float
    rounds: int
    status: str = ""
    attempts: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    tool_executions: int = 0
    most_unacknowledged: int = 0
    """Rings that the broker counted as unacknowledged, at most, once the run was leased."""
    plain_starts: int = 0
    seconds: float = 0.0

    @property
    def violations(self) -> list[str]:
        """What must not be; empty when the run was executed once, and that says something."""
        expected = {
            "status": (self.status, RunStatus.COMPLETED.value),
            "attempts": (self.attempts, 1),
            "model calls": (self.model_calls, self.rounds + 1),
            "tool calls": (self.tool_calls, self.rounds),
            "tool executions": (self.tool_executions, self.rounds),
            "unacknowledged rings": (self.most_unacknowledged, 0),
        }
        wrong = [f"{what}: {is_} for {due}" for what, (is_, due) in expected.items() if is_ != due]
        if self.plain_starts < 2:
            wrong.append("the plain task was started once, so the broker did not redeliver")
        return wrong


async def drive(system: System, report: Report, progress: Progress) -> None:
    """Submit the run, and look at it and at the broker until it ends."""
    bar = progress.add_task("seconds", total=report.minutes * 60)
    started = time.monotonic()
    unacknowledged = f"{system.settings.key_prefix}:celery:unacked"
    broker = Redis.from_url(system.settings.effective_broker_url)
    async with AsyncAgentClient(system.settings) as client:
        run = await client.submit("marathon", "Go.", metadata={"rounds": report.rounds})
        while not (record := await run.get()).status.is_final:
            progress.update(bar, completed=time.monotonic() - started)
            if record.status is RunStatus.RUNNING:
                waiting = int(str(broker.hlen(unacknowledged)))
                report.most_unacknowledged = max(report.most_unacknowledged, waiting)
            await asyncio.sleep(0.25)
    broker.close()
    report.status, report.attempts = record.status.value, record.attempts
    report.seconds = time.monotonic() - started


def measure(minutes: float, visibility_timeout_s: float, console: Console) -> Report:
    """Start everything, run, stop everything."""
    rounds = max(1, round(minutes * 60 / (2 * STEP_S)))
    report = Report(minutes, visibility_timeout_s, rounds)
    with tempfile.TemporaryDirectory(prefix="agents-bench-") as folder, EmbeddedRedis() as broker:
        notes = Path(folder) / "notes.jsonl"
        notes.touch()
        environment = {
            EXECUTIONS: str(notes),
            BROKER: broker.url,
            VISIBILITY: str(visibility_timeout_s),
        }
        with (
            run_system(
                "benchmarks.long_run_agents", workers=WORKERS, environment=environment
            ) as system,
            _plain_workers(environment, minutes * 60),
            Progress(console=console, transient=True) as progress,
        ):
            asyncio.run(drive(system, report, progress))
        _count(notes, report)
    return report


@contextmanager
def _plain_workers(environment: Mapping[str, str], seconds: float) -> Iterator[None]:
    """Workers of the plain app, with one task for them that takes so long."""
    command = [sys.executable, "-m", "benchmarks.long_run_agents"]
    processes = [
        subprocess.Popen(  # noqa: S603  this project's own module
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(WORKERS)
    ]
    os.environ.update({name: environment[name] for name in (BROKER, VISIBILITY)})
    app = plain_app()
    app.send_task(PLAIN, args=(seconds,))
    app.close()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _count(notes: Path, report: Report) -> None:
    entries = [json.loads(line) for line in notes.read_text().splitlines()]
    counts = Counter(entry["what"] for entry in entries)
    report.model_calls = counts["model"]
    report.tool_executions = counts["tool"]
    report.tool_calls = len({entry["key"] for entry in entries if entry["what"] == "tool"})
    report.plain_starts = counts[PLAIN]


def _table(report: Report) -> Table:
    rows = {
        "run": f"{report.seconds:.0f} s, {report.status}, {report.rounds + 1} rounds",
        "visibility timeout": f"{report.visibility_timeout_s:g} s",
        "attempts": str(report.attempts),
        "model calls": str(report.model_calls),
        "tools": f"{report.tool_calls} calls, executed {report.tool_executions} times",
        "rings unacknowledged": f"{report.most_unacknowledged} at most",
        "plain Celery task beside it": f"started {report.plain_starts} times",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def main() -> int:
    """Run from the command line; the exit code says whether the run was executed once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--visibility-timeout", type=float, default=20.0)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    console = Console(stderr=options.format == "json")
    report = measure(options.minutes, options.visibility_timeout, console)
    violations = report.violations
    if options.format == "json":
        json.dump(asdict(report) | {"violations": violations}, sys.stdout, indent=2)
    else:
        console.print(_table(report), highlight=False)
        for violation in violations:
            console.print(f"[red]{violation}", highlight=False)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
