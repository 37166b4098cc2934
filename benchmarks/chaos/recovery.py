"""Recovery: how long runs waited for another worker, from the workers' own logs."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from benchmarks.chaos.evidence import Harm, LogEntry
from benchmarks.chaos.schedule import FaultKind
from benchmarks.quantile import quantile

_TAKEN: Final = frozenset({"run.leased", "run.resumed"})
_LET_GO: Final = frozenset(
    {"run.completed", "run.failed", "run.cancelled", "run.handed_over", "run.lost"}
    | {"run.abandoned", "run.dropped"}
)


@dataclass(frozen=True)
class Spread:
    """How long something took, in seconds."""

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    longest: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of these values; each percentile is one of them (nearest rank)."""
        ordered = sorted(values)
        if not ordered:
            return cls()
        return cls(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.95), ordered[-1])


def read_log(path: Path) -> list[LogEntry]:
    """What a worker logged about its runs."""
    entries = []
    for line in path.read_text(errors="replace").splitlines():
        if '"event": "run.' not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off by a kill
        if "run_id" in entry and "worker_id" in entry:
            entries.append(
                LogEntry(
                    at=datetime.fromisoformat(entry["timestamp"]).timestamp(),
                    event=entry["event"],
                    run_id=entry["run_id"],
                    worker_id=entry["worker_id"],
                    attempt=entry.get("attempt"),
                    reason=entry.get("reason", ""),
                )
            )
    return entries


_STORE_AWAY: Final = frozenset(
    {FaultKind.STORE_RESTART, FaultKind.STORE_STALL, FaultKind.STORE_SILENCE}
)


@dataclass(frozen=True)
class Recovery:
    """One run that was taken from a worker that came to harm; times as in `Harm`."""

    harmed_at: float
    taken_at: float

    @property
    def seconds(self) -> float:
        return self.taken_at - self.harmed_at


def without_outages(recoveries: Iterable[Recovery], harms: Iterable[Harm]) -> list[Recovery]:
    """Those in whose time the store answered: while it is away, nobody can take anything."""
    away = [(harm.at, harm.until) for harm in harms if harm.kind in _STORE_AWAY]
    return [
        each
        for each in recoveries
        if not any(begin < each.taken_at and end > each.harmed_at for begin, end in away)
    ]


def recoveries(
    harms: Sequence[Harm], logs: Sequence[LogEntry], kinds: Iterable[FaultKind]
) -> list[Recovery]:
    """For each run that a worker held when it came to harm: when another one took it.

    Runs that no other worker had to take, since they had ended, are not among them.
    """
    by_run: dict[str, list[LogEntry]] = defaultdict(list)
    for entry in sorted(logs, key=lambda each: each.at):
        by_run[entry.run_id].append(entry)
    kinds = frozenset(kinds)
    return [
        Recovery(harm.at, taken)
        for harm in harms
        if harm.kind in kinds
        for entries in by_run.values()
        if _holder(entries, harm.at) == harm.worker_id
        and (taken := _next_taken(entries, harm)) is not None
    ]


def _holder(entries: Sequence[LogEntry], at: float) -> str | None:
    """Which worker held the run; None if none did."""
    holder = None
    for entry in entries:
        if entry.at > at:
            break
        if entry.event in _TAKEN:
            holder = entry.worker_id
        elif entry.event in _LET_GO and entry.worker_id == holder:
            holder = None
    return holder


def _next_taken(entries: Sequence[LogEntry], harm: Harm) -> float | None:
    """When another worker took the run; None if there was no need to.

    A worker that was frozen while no other one lived goes on with its runs when it is thawed. It
    lost one if another worker took it by then, or if it says so itself.
    """
    behind = [entry for entry in entries if entry.at > harm.at]
    own = next((entry for entry in behind if entry.worker_id == harm.worker_id), None)
    taken = next(
        (
            entry.at
            for entry in behind
            if entry.event in _TAKEN and entry.worker_id != harm.worker_id
        ),
        None,
    )
    if taken is None or harm.kind is not FaultKind.FREEZE:
        return taken
    is_lost = own is not None and own.event == "run.lost"
    return taken if is_lost or taken <= harm.until else None
