"""What is stored, against what each run was to write: nothing missing, nothing twice, in order."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from benchmarks.chaos.evidence import Evidence
from benchmarks.chaos.expectation import Key, compare
from benchmarks.chaos.findings import Findings
from benchmarks.chaos.plan import SPEC
from benchmarks.chaos.script import split_attempt
from shared.message import Message, ToolOutcome
from shared.openai_chat import to_openai
from shared.run import Run, RunStatus
from tests.model_server.pairing import FaultKind, find_faults


def check_histories(evidence: Evidence, findings: Findings) -> None:
    """The messages of each run, and those of each conversation together."""
    for run in evidence.runs:
        messages = messages_of(evidence, run)
        if run.status.is_final:
            _check_run(evidence, run, messages, findings)
        _check_places(run, messages, findings)
    for history_id, stored in evidence.histories.items():
        findings.counts["messages stored"] += len(stored)
        _check_conversation(history_id, stored, findings)


def messages_of(evidence: Evidence, run: Run) -> list[Message]:
    """What a run has stored."""
    stored = evidence.histories.get(run.history_id, ())
    return [message for message in stored if message.run_id == run.id]


def is_rolled_back(run: Run) -> bool:
    """Whether its messages had to be removed."""
    return run.status is RunStatus.CANCELLED and run.rollback_requested


def _check_run(
    evidence: Evidence, run: Run, messages: Sequence[Message], findings: Findings
) -> None:
    spec = evidence.specs[str(run.metadata[SPEC])]
    about = f"{run.id} ({spec.id})"
    if is_rolled_back(run):
        findings.counts["rolled back"] += 1
        if messages:
            found = f"{len(messages)} messages"
            findings.report("rolled back", about, expected="no messages", found=found)
        return
    difference = compare(spec.expected, messages, run.status)
    wrong = len(difference.duplicated) + len(difference.unexpected)
    findings.counts["messages expected"] += len(messages) - wrong + len(difference.missing)
    findings.counts["messages missing"] += len(difference.missing)
    findings.counts["messages duplicated"] += len(difference.duplicated)
    findings.counts["messages unexpected"] += len(difference.unexpected)
    for key in difference.missing:
        findings.report("missing", about, expected=_short(key), found="nothing")
    for message in difference.duplicated:
        findings.report("duplicated", about, expected="once", found=_show(message))
    for message in difference.unexpected:
        findings.report("unexpected", about, expected="in the script", found=_show(message))
    answers = sum(key[0] == "assistant" for group in spec.expected.groups for key in group)
    if run.status is RunStatus.COMPLETED and run.rounds != answers:
        findings.report("rounds", about, expected=f"{answers}", found=f"{run.rounds}")


def _check_places(run: Run, messages: Sequence[Message], findings: Findings) -> None:
    places = [message.position for message in messages]
    if places != list(range(len(places))):
        findings.report("positions", run.id, expected=f"0 to {len(places) - 1}", found=f"{places}")
    attempts = [
        (attempt, message)
        for message in messages
        if (attempt := split_attempt(message.text)[1]) is not None
        and message.outcome is not ToolOutcome.CANCELLED
    ]
    for (earlier, _), (later, message) in pairwise(attempts):
        if later < earlier:
            findings.counts["zombie writes stored"] += 1
            expected = f"attempt {earlier} or a later one"
            findings.report("fencing", run.id, expected=expected, found=_show(message))


def _check_conversation(history_id: str, messages: Sequence[Message], findings: Findings) -> None:
    for message_id, count in Counter(message.id for message in messages).items():
        if count > 1:
            findings.report("message ids", message_id, expected="once", found=f"{count} times")
    for fault in find_faults(to_openai(messages)):
        if fault.kind is not FaultKind.CALL_ID_REUSED:
            findings.counts["orphan calls"] += 1
            expected = "each call with its result behind it"
            findings.report("pairs", history_id, expected=expected, found=str(fault))
    writers = [message.run_id for message in messages]
    blocks = [
        writer for index, writer in enumerate(writers) if writers[index - 1 : index] != [writer]
    ]
    for writer, count in Counter(blocks).items():
        if count > 1:
            found = f"{count} stretches of messages"
            findings.report("one writer", str(writer), expected="one stretch", found=found)


def _show(message: Message) -> str:
    return f"{message.id} {message.role.value} {message.text[:80]!r}"


def _short(key: Key) -> str:
    text = str(key)
    return text if len(text) < 160 else text[:160] + "…"
