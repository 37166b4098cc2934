"""What has to hold after every step, looked up in the store itself."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from shared.identifier import is_alone
from shared.message import Message, Role
from shared.run import TRANSITIONS, Run, RunStatus
from tests.contract.machine.reference_history import ReferenceHistory, words
from tests.contract.machine.reference_ledger import ReferenceLedger
from tests.contract.machine.snapshot import Snapshot


def check_runs(found: Snapshot, ledger: ReferenceLedger) -> None:
    """Each run is as the reference has it; at most one of a conversation is active."""
    assert found.runs.keys() == ledger.runs.keys()
    for run_id, known in ledger.runs.items():
        run = found.runs[run_id]
        assert (run.status, run.worker_id, run.fencing_token) == (
            known.status,
            known.worker,
            known.token,
        ), run
        counts = (known.attempts, known.crashes, known.strikes)
        assert (run.attempts, run.crashes, run.strikes) == counts, run
        marks = (known.cancel, known.rollback, known.is_suspect)
        assert (run.cancel_requested, run.rollback_requested, run.is_suspect) == marks, run
    active = [
        run.history_id
        for run in found.runs.values()
        if run.status is RunStatus.RUNNING or run.id in found.ready
    ]
    assert len(active) == len(set(active)), f"two active runs in one conversation: {active}"


def check_transitions(before: Mapping[str, Run], after: Mapping[str, Run]) -> None:
    """Only legal changes of status; nothing of a run changes once it has ended."""
    for run_id, run in before.items():
        now = after.get(run_id)
        if run.status.is_final:
            assert now == run, f"{run} had ended and is {now}"
        elif now is not None and now.status is not run.status:
            assert now.status in TRANSITIONS[run.status], f"{run} became {now}"


def check_indexes(found: Snapshot, ledger: ReferenceLedger) -> None:
    """Every run is where its status says, and the indexes hold nothing else."""
    runs = found.runs.values()
    running = [run for run in runs if run.status is RunStatus.RUNNING]
    assert found.ready == {name for name, one in ledger.runs.items() if ledger.is_ready(one)}
    assert found.suspects == {name for name in found.ready if ledger.runs[name].is_suspect}
    assert found.leases == _groups((run.worker_id or "", run.id) for run in running)
    assert found.holders >= found.leases.keys()
    assert found.active == {name: one.new.id for name, one in ledger.active.items()}
    for history in {run.history_id for run in runs} | found.waiting.keys():
        expected = [one.new.id for one in ledger.waiting(history)]
        assert list(found.waiting.get(history, [])) == expected, f"the line of {history}"
    stopping = {run.id for run in runs if run.cancel_requested and not run.status.is_final}
    assert found.cancelling == stopping
    assert found.by_status == _groups((run.status, run.id) for run in runs)
    assert found.by_history == _groups((run.history_id, run.id) for run in runs)
    if found.listed is not None:
        written = {name for name, messages in found.messages.items() if messages}
        assert found.listed >= {name for name in written if not is_alone(name)}
    assert not found.forgotten


def check_histories(found: Snapshot, reference: ReferenceHistory) -> None:
    """Histories are what was written, and such that every model accepts them."""
    for history in found.messages.keys() | reference.messages.keys():
        stored = list(found.messages.get(history, []))
        expected = reference.messages.get(history, [])
        assert [words(one) for one in stored] == [words(one) for one in expected]
        check_history(stored, found.runs)


def check_history(stored: Sequence[Message], runs: Mapping[str, Run]) -> None:
    """Runs write one after the other, without gap or repetition, and close what they open."""
    ids = [message.id for message in stored]
    assert len(ids) == len(set(ids)), f"a message twice: {ids}"
    blocks = [
        (run_id or "", list(block)) for run_id, block in groupby(stored, key=lambda one: one.run_id)
    ]
    writers = [run_id for run_id, _ in blocks]
    assert len(writers) == len(set(writers)), f"runs wrote in turns: {ids}"
    for run_id, block in blocks:
        assert [message.position for message in block] == list(range(len(block))), ids
        assert block[0].role is Role.USER, f"{run_id} does not begin with its input: {block}"
        open_calls = _open_calls(block)
        assert run_id in runs, f"{run_id} was withdrawn and has messages"
        run = runs[run_id]
        assert not (open_calls and run.status.is_final), f"{run} left {open_calls} open"
        _check_end(run, block)


def _check_end(run: Run, block: Sequence[Message]) -> None:
    if run.status is RunStatus.COMPLETED:
        assert block[-1].text == run.output == "answer", f"{run} ends with {block[-1]}"
    assert not (run.status.is_final and run.rollback_requested), (
        f"{run} was rolled back and has messages"
    )
    if not run.options.save_on_iteration and not run.status.is_final:
        # The last append is one step, and the status the next one.
        assert not _open_calls(block), f"{run} shows a part of its messages"


def _open_calls(block: Sequence[Message]) -> list[str]:
    """Calls without a result at the end of a run's messages.

    Every other call has exactly one, before the next message that is none, and no result is without
    its call.
    """
    missing: list[str] = []
    for message in block:
        if message.role is Role.TOOL:
            assert message.tool_call_id in missing, f"a result without a call: {message.id}"
            missing.remove(message.tool_call_id)
            continue
        assert not missing, f"{message.id} follows calls without a result: {missing}"
        missing = [call.id for call in message.tool_calls]
    return missing


def _groups(pairs: Iterable[tuple[object, str]]) -> dict[object, frozenset[str]]:
    groups: dict[object, set[str]] = {}
    for group, member in pairs:
        groups.setdefault(group, set()).add(member)
    return {group: frozenset(members) for group, members in groups.items()}
