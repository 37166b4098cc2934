"""Holding the evidence against the promises."""

from benchmarks.chaos.checks.executions import check_executions
from benchmarks.chaos.checks.histories import check_histories
from benchmarks.chaos.checks.lines import check_lines
from benchmarks.chaos.checks.submits import check_ends, check_submits
from benchmarks.chaos.checks.watchers import check_watchers
from benchmarks.chaos.evidence import Evidence
from benchmarks.chaos.findings import Findings


def verify(evidence: Evidence) -> Findings:
    """All violations, and what was counted."""
    findings = Findings()
    for check in (
        check_submits,
        check_ends,
        check_histories,
        check_lines,
        check_executions,
        check_watchers,
    ):
        check(evidence, findings)
    for entry in evidence.leftovers:
        findings.report("leftovers", entry, expected="nothing, as every run has ended", found=entry)
    for harm in evidence.harms:
        if harm.exit_s is not None and harm.exit_s > evidence.exit_limit_s:
            expected = f"to end within {evidence.exit_limit_s:g} s of SIGTERM"
            found = f"{harm.exit_s:.1f} s"
            findings.report("deploy", str(harm.worker_id), expected=expected, found=found)
    return findings
