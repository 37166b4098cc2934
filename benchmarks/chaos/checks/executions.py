"""The journal against the history: what was finished is never executed again.

A tool call is finished when its result is stored, a model call when its answer is. The store stamps
every message with its clock, which is this machine's, as the journal's is. So an execution that
starts after the stamp of its result is a violation, whoever started it. One that starts before it,
though an earlier one had begun, repeats what was in flight when its worker was stopped: right, as
long as it has the same idempotency key, which is what it is counted by.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.chaos.checks.histories import messages_of
from benchmarks.chaos.evidence import Evidence
from benchmarks.chaos.findings import Findings
from benchmarks.chaos.journal import Execution
from benchmarks.chaos.script import split_attempt
from shared.message import Message, Role

STAMP_S: Final = 0.002
"""The store's stamp is in whole milliseconds."""


def check_executions(evidence: Evidence, findings: Findings) -> None:
    """Each execution, against the message that holds its result."""
    stored: dict[str, Message] = {}
    for run in evidence.runs:
        messages = messages_of(evidence, run)
        stored |= results_by_key(messages) | answers_by_key(messages)
    by_key: dict[tuple[str, str], list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        by_key[execution.what, execution.key].append(execution)
    for (what, key), executions in by_key.items():
        findings.counts[f"{what} executions"] += len(executions)
        message = stored.get(f"{what} {key}")
        again = [each for each in executions if message and _is_behind(each, message)]
        findings.counts[f"finished {what} executed again"] += len(again)
        findings.counts[f"{what} in flight, executed again"] += len(executions) - 1 - len(again)
        for each in again:
            findings.report(
                f"finished {what} executed again",
                key,
                expected=f"no execution once its result was stored at {_stamp(message):.3f}",
                found=f"attempt {each.attempt} in process {each.pid} at {each.started_at:.3f}",
            )
    _check_sources(stored, by_key, findings)


def results_by_key(messages: Sequence[Message]) -> dict[str, Message]:
    """The result of each call, by ``tool <idempotency key>``."""
    results: dict[str, Message] = {}
    calls: list[tuple[str, str]] = []
    for message in messages:
        if message.role is Role.ASSISTANT:
            place = f"{message.run_id}.{message.position}"
            calls = [(call.id, f"tool {place}.{i}") for i, call in enumerate(message.tool_calls)]
        elif message.role is Role.TOOL:
            found = next((each for each in calls if each[0] == message.tool_call_id), None)
            if found is not None:
                calls.remove(found)
                results[found[1]] = message
    return results


def answers_by_key(messages: Sequence[Message]) -> dict[str, Message]:
    """The answer of each model call, by ``model <run id>.<round>``."""
    answers = [message for message in messages if message.role is Role.ASSISTANT]
    return {f"model {message.run_id}.{index}": message for index, message in enumerate(answers)}


def _check_sources(
    stored: Mapping[str, Message],
    by_key: Mapping[tuple[str, str], Sequence[Execution]],
    findings: Findings,
) -> None:
    """Each stored result is of an execution that is in the journal, or is no result."""
    for name, message in stored.items():
        what, _, key = name.partition(" ")
        attempt = split_attempt(message.text)[1]
        if attempt is None:
            continue
        attempts = Counter(each.attempt for each in by_key.get((what, key), ()))
        if not attempts[attempt]:
            expected = f"an execution in attempt {attempt}, as its text says"
            found = f"attempts {sorted(attempts)} in the journal"
            findings.report("journal", message.id, expected=expected, found=found)


def _is_behind(execution: Execution, message: Message) -> bool:
    made_in = split_attempt(message.text)[1]
    is_of_later_attempt = made_in is not None and execution.attempt > made_in
    return is_of_later_attempt or execution.started_at > _stamp(message) + STAMP_S


def _stamp(message: Message | None) -> float:
    """When the store took a message in, from its cursor."""
    if message is None or message.cursor is None:
        return float("inf")
    return int(message.cursor.partition("-")[0]) / 1000
