"""The report: one table for people, the same figures as JSON."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.chaos.evidence import Evidence
from benchmarks.chaos.findings import Findings, Violation
from benchmarks.chaos.recovery import Spread, recoveries, without_outages
from benchmarks.chaos.schedule import FaultKind

_REFUSED = "fencing token"
"""What is in the reason of a refusal by a store, and not in that of a look at the ledger."""
_KILLS = (FaultKind.KILL, FaultKind.KILL_ALL)


@dataclass(frozen=True)
class Setup:
    """With what the harness was started."""

    seed: int
    runs: int
    workers: int
    minutes: float
    broker: str
    recorded: int
    """Recorded runs among the runs."""
    max_crashes: int


@dataclass(frozen=True)
class Report:
    """What a run of the harness came to."""

    setup: Setup
    figures: dict[str, float | int]
    violations: list[Violation]
    seconds: float

    @classmethod
    def of(cls, setup: Setup, evidence: Evidence, findings: Findings, seconds: float) -> "Report":
        """All figures, in the order in which they are shown."""
        figures = {**_load(findings), **_harms(evidence), **_promises(evidence, findings)}
        figures["violations"] = len(findings.violations)
        return cls(setup, figures | _times(evidence), findings.violations, seconds)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "setup": asdict(self.setup),
            "seconds": round(self.seconds, 1),
            "figures": self.figures,
            "violations": [asdict(each) for each in self.violations],
        }

    def print(self, console: Console) -> None:
        """The violations one by one, then the table."""
        for violation in self.violations:
            console.print(f"violation  {violation}", markup=False, highlight=False, soft_wrap=True)
        setup = self.setup
        table = Table(
            show_header=False,
            title=f"seed {setup.seed}, {setup.broker} as the broker, {setup.workers} workers, "
            f"{setup.runs} runs ({setup.recorded} recorded) in {setup.minutes:g} minutes, "
            f"AGENTS_MAX_CRASHES={setup.max_crashes}, all else at its default",
            title_justify="left",
        )
        table.add_column("")
        table.add_column("", justify="right")
        for name, value in self.figures.items():
            table.add_row(name, f"{value:.2f} s" if isinstance(value, float) else str(value))
        console.print(table)


def _load(findings: Findings) -> dict[str, int]:
    counts = findings.counts
    statuses = {
        f"  {name.removeprefix('status ')}": count
        for name, count in sorted(counts.items())
        if name.startswith("status ")
    }
    refused = {
        f"  {name.removeprefix('refused ')}": count
        for name, count in sorted(counts.items())
        if name.startswith("refused ")
    }
    return {
        "runs accepted": counts["runs"],
        **statuses,
        "  of these rolled back": counts["rolled back"],
        "submits": counts["submits"],
        **refused,
        "  no answer, accepted all the same": counts["in doubt, accepted"],
        "cancels": counts["cancels"],
    }


def _harms(evidence: Evidence) -> dict[str, int]:
    done = Counter(harm.kind for harm in evidence.harms)
    messages: Counter[FaultKind] = Counter()
    for harm in evidence.harms:
        messages[harm.kind] += harm.count
    return {
        "workers killed": sum(done[kind] for kind in _KILLS),
        "workers frozen": done[FaultKind.FREEZE],
        "workers terminated": done[FaultKind.TERMINATE],
        "store restarts": done[FaultKind.STORE_RESTART],
        "store stalls": done[FaultKind.STORE_STALL],
        "store silent for longer than clients wait": done[FaultKind.STORE_SILENCE],
        "broker restarts": done[FaultKind.BROKER_RESTART],
        "wake-ups dropped": messages[FaultKind.DROP],
        "wake-ups added": messages[FaultKind.DUPLICATE] + messages[FaultKind.RING_AGAIN],
    }


def _promises(evidence: Evidence, findings: Findings) -> dict[str, float | int]:
    counts = findings.counts
    lost = [entry.reason for entry in evidence.logs if entry.event == "run.lost"]
    return {
        "messages expected": counts["messages expected"],
        "messages stored": counts["messages stored"],
        "messages duplicated": counts["messages duplicated"],
        "messages missing": counts["messages missing"],
        "messages unexpected": counts["messages unexpected"],
        "orphan calls": counts["orphan calls"],
        "tools executed": counts["tool executions"],
        "finished tools executed again": counts["finished tool executed again"],
        "tools in flight when stopped, executed again": counts["tool in flight, executed again"],
        "models called": counts["model executions"],
        "finished model calls made again": counts["finished model executed again"],
        "model calls in flight when stopped, made again": counts["model in flight, executed again"],
        "runs dropped by zombies": len(lost),
        "  of these at a write that was refused": sum(_REFUSED in reason for reason in lost),
        "zombie writes stored": counts["zombie writes stored"],
        "watchers": counts["watchers"],
        "messages watched": counts["watched messages"],
        "messages missed by watchers": counts["watched, missed"],
        "messages repeated to watchers": counts["watched, repeated"],
    }


def _times(evidence: Evidence) -> dict[str, float | int]:
    times: dict[str, float | int] = {}
    for name, kinds in (
        ("recovery after a kill", (FaultKind.KILL,)),
        ("recovery after all were killed", (FaultKind.KILL_ALL,)),
        ("recovery after a freeze", (FaultKind.FREEZE,)),
        ("hand-over after SIGTERM", (FaultKind.TERMINATE,)),
    ):
        found = recoveries(evidence.harms, evidence.logs, kinds)
        calm = without_outages(found, evidence.harms)
        times |= _spread(name, Spread.of(each.seconds for each in calm))
        if len(calm) < len(found):
            among = f"{name}, those with the store away included"
            times |= _spread(among, Spread.of(each.seconds for each in found))
    exits = [harm.exit_s for harm in evidence.harms if harm.exit_s is not None]
    return times | _spread("exit after SIGTERM", Spread.of(exits))


def _spread(name: str, spread: Spread) -> dict[str, float | int]:
    if not spread.count:
        return {name: 0}
    return {
        name: spread.count,
        f"  {name}, p50": round(spread.p50, 3),
        f"  {name}, p95": round(spread.p95, 3),
        f"  {name}, max": round(spread.longest, 3),
    }
