"""Runs of one conversation: in which order they were accepted, and in which they were executed."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.chaos.evidence import Evidence
from benchmarks.chaos.findings import Findings
from shared.run import BusyPolicy, Run

_FIRST = (BusyPolicy.INTERRUPT, BusyPolicy.ROLLBACK)


def check_lines(evidence: Evidence, findings: Findings) -> None:
    """First come, first served; those that interrupt go before those that wait."""
    accepted: dict[str, float] = {}
    for told in evidence.told:
        if told.run_id is not None:
            at = told.at + told.seconds
            accepted[told.run_id] = min(at, accepted.get(told.run_id, at))
    conversations: dict[str, list[Run]] = defaultdict(list)
    for run in evidence.runs:
        if run.conversation_id is not None and run.started_at is not None and run.id in accepted:
            conversations[run.conversation_id].append(run)
    for runs in conversations.values():
        runs.sort(key=lambda run: accepted[run.id])
        _check_order([run for run in runs if run.on_busy in _FIRST], findings)
        _check_order([run for run in runs if run.on_busy not in _FIRST], findings)
        _check_precedence(runs, findings)


def _check_order(runs: Sequence[Run], findings: Findings) -> None:
    for earlier, later in pairwise(runs):
        if _start(later) < _start(earlier):
            findings.report(
                "first come, first served",
                f"{later.id} ({later.conversation_id})",
                expected=f"after {earlier.id}",
                found=f"{_start(earlier) - _start(later):.3f} s before it",
            )


def _check_precedence(runs: Sequence[Run], findings: Findings) -> None:
    for first in runs:
        if first.on_busy not in _FIRST:
            continue
        for other in runs:
            waited = other.created_at < first.created_at and _start(other) > (
                first.created_at.timestamp()
            )
            if other.on_busy not in _FIRST and waited and _start(other) < _start(first):
                findings.report(
                    "who interrupts goes first",
                    f"{first.id} ({first.conversation_id})",
                    expected=f"before {other.id}, which waited",
                    found=f"{_start(first) - _start(other):.3f} s after it",
                )


def _start(run: Run) -> float:
    return run.started_at.timestamp() if run.started_at is not None else float("inf")
