"""What callers were told, against the ledger: accepted once, refused for good, ended in time."""

from collections import defaultdict
from typing import Final

from benchmarks.chaos.evidence import Evidence, Told
from benchmarks.chaos.findings import Findings
from benchmarks.chaos.plan import SPEC
from shared.run import BusyPolicy, CancelResult, Run, RunStatus

BUSY: Final = "ConversationBusyError"
IN_DOUBT: Final = "StoreUnavailableError"
"""The one error after which a run may exist all the same."""
OUTAGES: Final = frozenset({IN_DOUBT, "BrokerUnavailableError"})
STAMP_S: Final = 0.002
"""The store's times are in whole milliseconds."""
SUBMIT_LIMIT_S: Final = 30.0
"""Reading the roster, submitting, ringing and taking back: four times a limit of 5 s, and some."""


def check_submits(evidence: Evidence, findings: Findings) -> None:
    """Each submit led to one run, or to none."""
    runs = _runs_by_spec(evidence)
    told: dict[str, list[Told]] = defaultdict(list)
    for each in evidence.told:
        told[each.spec_id].append(each)
        _check_answer(each, evidence, findings)
    for spec_id in sorted(runs.keys() | told.keys()):
        _check_spec(spec_id, told[spec_id], runs.get(spec_id, []), findings)
    findings.counts["runs"] = len(evidence.runs)
    for run in evidence.runs:
        findings.counts[f"status {run.status.value}"] += 1


def check_ends(evidence: Evidence, findings: Findings) -> None:
    """Each run has ended, in a status that was called for, and everybody was told the same."""
    stopped = _stopped(evidence)
    followed = {told.run_id for told in evidence.told}
    for run in evidence.runs:
        spec = evidence.specs[str(run.metadata[SPEC])]
        about = f"{run.id} ({spec.id})"
        if not run.status.is_final:
            findings.report("ended", about, expected="a final status", found=run.status.value)
            continue
        told = evidence.outcomes.get(run.id)
        if told is not run.status and run.id in followed:
            findings.report("outcome", about, expected=run.status.value, found=str(told))
        code = run.error.code if run.error is not None else None
        legal = (run.status, code) == (spec.expected.status, spec.expected.error_code)
        if run.status is RunStatus.CANCELLED:
            legal = run.id in stopped
        if not legal:
            wanted = "cancelled only when asked for, else " + spec.expected.status.value
            found = f"{run.status.value} {run.error or ''}"
            findings.report("status", about, expected=wanted, found=found)
    _check_cancels(evidence, findings)


def _check_cancels(evidence: Evidence, findings: Findings) -> None:
    runs = {run.id: run for run in evidence.runs}
    for cancel in evidence.cancels:
        findings.counts["cancels"] += 1
        run = runs.get(cancel.run_id)
        if cancel.error is not None and cancel.error not in OUTAGES:
            expected = "an answer, or that the store is away"
            findings.report("cancel", cancel.run_id, expected=expected, found=cancel.error)
        if run is None or cancel.result is not CancelResult.CANCELLED:
            continue
        if run.status is not RunStatus.CANCELLED or run.attempts:
            found = f"{run.status.value} after {run.attempts} attempts"
            expected = "cancelled at once, as the caller was told"
            findings.report("cancel", run.id, expected=expected, found=found)


def _check_answer(told: Told, evidence: Evidence, findings: Findings) -> None:
    findings.counts["submits"] += 1
    if told.error is not None:
        findings.counts[f"refused {told.error}"] += 1
    may_be_busy = evidence.specs[told.spec_id].on_busy is BusyPolicy.REJECT
    allowed = OUTAGES | ({BUSY} if may_be_busy else set())
    if told.error is not None and told.error not in allowed:
        expected = f"a run, or one of {', '.join(sorted(allowed))}"
        found = f"{told.error}: {told.detail}"
        findings.report("submit", told.spec_id, expected=expected, found=found)
    if told.error == BUSY and not _was_busy(told, evidence):
        found = "refused while no run held the conversation"
        findings.report("reject", told.spec_id, expected="a run", found=found)
    if told.seconds > SUBMIT_LIMIT_S:
        expected = f"an answer within {SUBMIT_LIMIT_S:g} s"
        findings.report("submit", told.spec_id, expected=expected, found=f"{told.seconds:.1f} s")


def _was_busy(told: Told, evidence: Evidence) -> bool:
    conversation = evidence.specs[told.spec_id].conversation_id
    return any(
        run.conversation_id == conversation
        and run.created_at.timestamp() <= told.at + told.seconds + 0.01
        and (run.finished_at is None or run.finished_at.timestamp() >= told.at - 0.01)
        for run in evidence.runs
    )


def _check_spec(spec_id: str, told: list[Told], runs: list[Run], findings: Findings) -> None:
    accepted = {each.run_id for each in told if each.run_id is not None}
    found = {run.id for run in runs}
    if len(accepted) > 1:
        findings.report(
            "one key, one run", spec_id, expected="one run", found=", ".join(map(str, accepted))
        )
    for run_id in accepted - found:
        findings.report("accepted", str(run_id), expected="in the ledger", found="nothing")
    is_in_doubt = any(each.error == IN_DOUBT for each in told)
    surplus = found - accepted
    if surplus and is_in_doubt and not accepted and len(surplus) == 1:
        findings.counts["in doubt, accepted"] += 1
    elif surplus:
        errors = sorted({str(each.error) for each in told if each.error})
        findings.report(
            "refused means nothing stored",
            spec_id,
            expected=f"only {sorted(map(str, accepted))} (told: {errors})",
            found=", ".join(sorted(surplus)),
        )


def _runs_by_spec(evidence: Evidence) -> dict[str, list[Run]]:
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in evidence.runs:
        runs[str(run.metadata[SPEC])].append(run)
    return runs


def _stopped(evidence: Evidence) -> set[str]:
    """Runs that somebody stopped: by a cancel, or by a later submit that goes first."""
    stopped = {cancel.run_id for cancel in evidence.cancels}
    for run in evidence.runs:
        if run.on_busy in (BusyPolicy.INTERRUPT, BusyPolicy.ROLLBACK):
            stopped |= {
                other.id
                for other in evidence.runs
                if other.conversation_id == run.conversation_id
                and other.id != run.id
                and _was_active(other, run.created_at.timestamp())
            }
    return stopped


def _was_active(run: Run, at: float) -> bool:
    """Whether a run was its conversation's active one when another one came to interrupt it.

    One that had not started was cancelled by that very step. One that waits is not concerned.
    """
    if run.finished_at is None:
        return False
    ended = run.finished_at.timestamp()
    if run.started_at is None:
        return abs(ended - at) <= STAMP_S
    return run.started_at.timestamp() - STAMP_S <= at <= ended + STAMP_S
