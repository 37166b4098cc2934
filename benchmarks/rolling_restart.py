"""Restarts every worker, one after the other, several times, under live runs.

    python -m benchmarks.rolling_restart [--runs 200] [--workers 2] [--rounds 5] [--format json]

All the time `--runs` runs are live: each has rounds of a model call and parallel tools that take
seconds, and whenever one ends a new one is submitted, until the last restart is over. A worker is
restarted by SIGTERM, waiting for its end, and a new process. Leases last ten minutes, so that only
hand-overs let runs go on. Tools note their starts and ends in a file, and that is what is counted.

Exit code 1 if a run was lost or failed, a tool that had ended was executed again, a hand-over was
counted as a crash, or a worker took longer than its grace and five seconds to leave.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from agent_client import AsyncAgentClient, AsyncRun, Run, RunStatus
from agent_worker.testing import WorkerProcess
from benchmarks.rolling_restart_agents import EXECUTIONS, MODEL_URL
from benchmarks.system import System, run_system
from tests.model_server import Answer, ModelServerProcess, script_model, tool_call

LEASE_S: Final = 600.0
LEAVE_S: Final = 5.0
"""What a worker may take to leave besides its grace."""
RESULT_S: Final = 300.0


@dataclass(frozen=True)
class Load:
    """What the runs are like. Times are in seconds."""

    rounds: int = 6
    model_s: tuple[float, float] = (1.0, 3.0)
    tool_s: tuple[float, float] = (0.5, 3.0)
    long_tool_s: float = 8.0
    """Longer than the grace: such a tool is cut off by a restart and runs again."""
    long_tools: float = 0.05
    """How many of the tools are long, as a part of one."""
    grace_s: float = 5.0


@dataclass
class Report:
    """What was found."""

    restarts: int = 0
    submitted: int = 0
    completed: int = 0
    lost: list[str] = field(default_factory=list)
    """Runs that did not complete, with what became of them."""
    handed_over: int = 0
    crashes: int = 0
    tools: int = 0
    """Calls, each counted once."""
    tools_cut_off: int = 0
    """Executions that did not end, since the grace was over."""
    tools_repeated: list[str] = field(default_factory=list)
    """Calls that were started again after an execution of theirs had ended."""
    left_after_s: list[float] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    grace_s: float = 0.0
    wall_s: float = 0.0

    @property
    def violations(self) -> list[str]:
        """What must not be; empty when the promise was kept."""
        limit_s = self.grace_s + LEAVE_S
        found = [f"lost: {run}" for run in self.lost]
        found += [f"executed again: {key}" for key in self.tools_repeated]
        found += [f"left after {took:.1f} s" for took in self.left_after_s if took > limit_s]
        found += [f"exit code {code}" for code in self.exit_codes if code]
        if self.crashes:
            found.append(f"{self.crashes} crashes counted")
        return found


class Travellers:
    """Keeps so many runs live, from `start` to `stop`."""

    def __init__(self, client: AsyncAgentClient, load: Load, dice: random.Random) -> None:
        self._client = client
        self._load = load
        self._dice = dice
        self._is_over = False
        self._tasks: list[asyncio.Task[None]] = []
        self.runs: list[AsyncRun] = []

    def start(self, count: int) -> None:
        """Submit the first ones."""
        self._tasks = [asyncio.create_task(self._keep_one_live()) for _ in range(count)]

    async def stop(self) -> None:
        """Submit no more, and wait for the end of all that live."""
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def _keep_one_live(self) -> None:
        while not self._is_over:
            run = await self._client.submit("traveller", "Go.", metadata={"model": self._model()})
            self.runs.append(run)
            await run.result(timeout_s=RESULT_S)

    def _model(self) -> str:
        load, dice = self._load, self._dice
        answers = []
        for _ in range(load.rounds):
            seconds = [self._tool_s() for _ in range(dice.choice((1, 1, 2)))]
            calls = tuple(tool_call("work", {"seconds": each}) for each in seconds)
            answers.append(Answer(calls=calls, delay_s=round(dice.uniform(*load.model_s), 2)))
        return script_model(*answers, Answer("There.", delay_s=load.model_s[0]))

    def _tool_s(self) -> float:
        if self._dice.random() < self._load.long_tools:
            return self._load.long_tool_s
        return round(self._dice.uniform(*self._load.tool_s), 2)


async def roll(
    system: System, report: Report, load: Load, *, runs: int, rounds: int, progress: Progress
) -> None:
    """Restart everything under load, then let all runs end and look at them."""
    restarts = progress.add_task("restarts", total=rounds * len(system.workers))
    async with AsyncAgentClient(system.settings) as client:
        dice = random.Random(9)  # noqa: S311  the same load each time, no secret
        travellers = Travellers(client, load, dice)
        travellers.start(runs)
        while await _count_running(client, runs) < runs:  # noqa: ASYNC110  another process leases
            await asyncio.sleep(0.1)
        for _ in range(rounds):
            for worker in system.workers:
                await asyncio.to_thread(_restart, worker, report)
                progress.advance(restarts)
        await travellers.stop()
        for run in travellers.runs:
            _judge(await run.get(), report)


def _restart(worker: WorkerProcess, report: Report) -> None:
    started = time.monotonic()
    worker.terminate()
    report.exit_codes.append(worker.wait(report.grace_s + 10 * LEAVE_S))
    report.left_after_s.append(time.monotonic() - started)
    report.restarts += 1
    worker.start().wait_ready()


async def _count_running(client: AsyncAgentClient, limit: int) -> int:
    return len(await client.runs(status=RunStatus.RUNNING, limit=limit))


def _judge(run: Run, report: Report) -> None:
    report.submitted += 1
    report.completed += run.status is RunStatus.COMPLETED
    report.handed_over += run.attempts - 1
    report.crashes += run.crashes
    if run.status is not RunStatus.COMPLETED:
        report.lost.append(f"{run.id} is {run.status}: {run.error}")


def count_executions(entries: Sequence[dict[str, Any]], report: Report) -> None:
    """Count what the tools noted, in the order in which they did."""
    ended: set[str] = set()
    starts: dict[str, int] = {}
    for entry in entries:
        key = entry["key"]
        if entry["event"] == "end":
            ended.add(key)
            continue
        starts[key] = starts.get(key, 0) + 1
        if key in ended:
            report.tools_repeated.append(key)
    report.tools = len(starts)
    report.tools_cut_off = sum(starts.values()) - len(starts) - len(report.tools_repeated)


def measure(*, runs: int, workers: int, rounds: int, load: Load, console: Console) -> Report:
    """Start everything, restart the workers, stop everything."""
    report = Report(grace_s=load.grace_s)
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="agents-bench-") as folder,
        ModelServerProcess() as model,
    ):
        executions = Path(folder) / "executions.jsonl"
        executions.touch()
        environment = {
            MODEL_URL: model.base_url,
            EXECUTIONS: str(executions),
            "AGENTS_LEASE_S": str(LEASE_S),
            "AGENTS_HANDOVER_GRACE_S": str(load.grace_s),
            "AGENTS_CONCURRENCY": str(runs),
        }
        module = "benchmarks.rolling_restart_agents"
        with (
            run_system(module, workers=workers, environment=environment) as system,
            Progress(console=console, transient=True) as progress,
        ):
            asyncio.run(roll(system, report, load, runs=runs, rounds=rounds, progress=progress))
        lines = executions.read_text().splitlines()
    count_executions([json.loads(line) for line in lines], report)
    report.wall_s = time.monotonic() - started
    return report


def _table(report: Report) -> Table:
    took = report.left_after_s or [0.0]
    rows = {
        "restarts by SIGTERM": f"{report.restarts}, exit codes {sorted(set(report.exit_codes))}",
        "gone after": f"{sum(took) / len(took):.1f} s on average, {max(took):.1f} s at most "
        f"(grace {report.grace_s:g} s)",
        "runs": f"{report.submitted} submitted, {report.completed} completed",
        "runs lost": str(len(report.lost)),
        "hand-overs": f"{report.handed_over}, of them counted as crashes: {report.crashes}",
        "tool calls": f"{report.tools}, cut off by the end of a grace: {report.tools_cut_off}",
        "finished tools repeated": str(len(report.tools_repeated)),
        "wall time": f"{report.wall_s:.0f} s",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def main() -> int:
    """Run from the command line; the exit code says whether the promise was kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rolling_restart", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    console = Console(stderr=options.format == "json")
    report = measure(
        runs=options.runs,
        workers=options.workers,
        rounds=options.rounds,
        load=Load(),
        console=console,
    )
    violations = report.violations
    if options.format == "json":
        json.dump(asdict(report) | {"violations": violations}, sys.stdout, indent=2)
    else:
        console.print(_table(report), highlight=False)
        for violation in violations[:20]:
            console.print(f"[red]{violation}", highlight=False)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
