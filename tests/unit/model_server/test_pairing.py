import pytest

from tests.model_server import Message
from tests.model_server.pairing import Fault, FaultKind, find_faults
from tests.unit.model_server.sample import MESSAGES, SYSTEM, assistant, tool, user

CALL = ("i", "look", "{}")
ASKED = assistant(None, CALL)
RESULT = tool("i", "look", "seen")


def _kinds(*messages: Message) -> list[tuple[FaultKind, int]]:
    return [(fault.kind, fault.message_index) for fault in find_faults(messages)]


def test_paired_calls_have_no_fault() -> None:
    """A conversation with parallel calls and an open end is sound."""
    assert find_faults(MESSAGES) == []


def test_results_may_come_in_another_order_than_their_calls() -> None:
    """Results are paired by id, not by place."""
    both = assistant(None, ("i", "look", "{}"), ("j", "look", "{}"))
    assert _kinds(user("a"), both, tool("j", "look", "1"), tool("i", "look", "2")) == []


@pytest.mark.parametrize("follower", [user("b"), assistant("c"), SYSTEM])
def test_a_call_must_be_answered_before_anything_else_is_said(follower: Message) -> None:
    """The open call is a fault at its own message, and the late result has no call."""
    assert _kinds(user("a"), ASKED, follower, RESULT) == [
        (FaultKind.UNANSWERED_CALL, 1),
        (FaultKind.ORPHAN_RESULT, 3),
    ]


def test_a_call_at_the_very_end_is_unanswered() -> None:
    """A history that stops before the result is broken as well."""
    assert _kinds(user("a"), ASKED) == [(FaultKind.UNANSWERED_CALL, 1)]


def test_a_second_result_for_one_call_has_no_call() -> None:
    """One call takes one result."""
    assert _kinds(user("a"), ASKED, RESULT, RESULT) == [(FaultKind.ORPHAN_RESULT, 3)]


def test_a_reused_id_is_a_fault_where_it_comes_back() -> None:
    """Within one message or later: the second call is the fault, its pairing is not."""
    again = [user("a"), ASKED, RESULT, ASKED, RESULT]
    assert _kinds(*again) == [(FaultKind.CALL_ID_REUSED, 3)]
    twice = [user("a"), assistant(None, CALL, CALL), RESULT, RESULT]
    assert _kinds(*twice) == [(FaultKind.CALL_ID_REUSED, 1)]


@pytest.mark.parametrize("missing", ["", None])
def test_missing_ids_are_faults_but_pair_with_each_other(missing: str | None) -> None:
    """A call without id that has a result without id is not unanswered on top."""
    call = {"id": missing, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": missing, "content": "seen"}
    assert _kinds(user("a"), asked, result) == [
        (FaultKind.CALL_WITHOUT_ID, 1),
        (FaultKind.RESULT_WITHOUT_ID, 2),
    ]


def test_a_fault_reads_as_a_sentence() -> None:
    """Rule, place and detail, for people."""
    fault = Fault(FaultKind.UNANSWERED_CALL, 3, "the call 'i' has no result")
    assert str(fault) == "unanswered call: message 3: the call 'i' has no result"
