"""How a run's messages are closed."""

from decimal import Decimal

from agent_worker.execution.closing import (
    MAX_ERROR_LENGTH,
    account,
    closing_drafts,
    failed,
    open_calls,
    recorded_error,
)
from shared.message import (
    Draft,
    Message,
    Price,
    Role,
    ToolCall,
    Usage,
    tool_result_draft,
    user_draft,
)
from shared.run import Ending, RunStatus
from tests.unit.worker.scripted import calls, says

FAILED = failed("model_error", "no such model")


def placed(*drafts: Draft) -> list[Message]:
    return [
        Message.from_draft(draft, run_id="run-1", position=position)
        for position, draft in enumerate(drafts)
    ]


def test_a_call_is_open_until_its_result_is_there() -> None:
    """In whatever order the results come."""
    asks = calls("search", "read")
    first, second = asks.tool_calls
    assert open_calls(placed(user_draft("hi"))) == ()
    assert open_calls(placed(user_draft("hi"), asks)) == (first, second)
    assert open_calls(placed(asks, tool_result_draft(second, "x"))) == (first,)
    assert open_calls(placed(asks, tool_result_draft(second, "x"), says("so"))) == ()


def test_an_id_that_comes_again_is_another_call() -> None:
    """A result of an earlier round does not answer a call of this one, whatever its id."""
    asks = calls("search")
    messages = placed(asks, tool_result_draft(asks.tool_calls[0], "x"), asks)
    assert open_calls(messages) == asks.tool_calls


def test_calls_of_one_message_that_share_an_id_are_told_apart_by_name() -> None:
    """One result answers one of them."""
    twins = (ToolCall(id="", name="a", arguments=""), ToolCall(id="", name="b", arguments=""))
    asks = Draft(role=Role.ASSISTANT, tool_calls=twins)
    assert open_calls(placed(asks, tool_result_draft(twins[1], "x"))) == twins[:1]


def test_closing_twice_adds_nothing() -> None:
    """So a worker that takes over in the middle of a closing comes to the same messages."""
    messages = placed(user_draft("hi"), calls("search", "read"))
    drafts = closing_drafts(messages, FAILED)
    assert len(drafts) == 3
    for stored in range(len(drafts) + 1):
        closed = placed(*messages, *drafts[:stored])
        assert closing_drafts(closed, FAILED) == drafts[stored:]


def test_a_note_is_written_for_failures_only() -> None:
    """A cancelled run is told by its status; its calls are closed all the same."""
    messages = placed(user_draft("hi"), calls("search"))
    [result] = closing_drafts(messages, Ending(status=RunStatus.CANCELLED))
    assert result.role is Role.TOOL
    assert "cancelled" in result.text


def test_an_error_is_read_back_from_its_note() -> None:
    """Code and message survive the death of the worker that noted them."""
    noted = placed(user_draft("hi"), *closing_drafts(placed(user_draft("hi")), FAILED))
    assert recorded_error(noted) == FAILED.error
    assert recorded_error(noted[:1]) is None
    assert recorded_error([]) is None


def test_an_ending_says_what_all_messages_of_the_run_took() -> None:
    """Those of earlier leases too. Usage of a run that completed is what its engine reported."""
    price = Price(model="m", known_cost=Decimal("0.5"))
    usage = Usage(input_tokens=3, requests=1)
    answer = Draft(role=Role.ASSISTANT, content="x", usage=usage, price=price, waited_ms=10)
    messages = placed(user_draft("hi"), answer, answer)
    cancelled = account(Ending(status=RunStatus.CANCELLED), messages)
    assert (cancelled.usage, cancelled.rounds) == (usage + usage, 2)
    assert (cancelled.spending.cost, cancelled.spending.model_s) == (Decimal(1), 0.02)
    completed = account(Ending(status=RunStatus.COMPLETED, usage=usage, rounds=7), messages)
    assert (completed.usage, completed.rounds) == (usage, 7)
    assert completed.spending == cancelled.spending


def test_an_error_has_bounds() -> None:
    """An exception may hold a whole document; a run's record shall not."""
    error = failed("internal_error", "x" * 10_000).error
    assert error is not None
    assert len(error.message) == MAX_ERROR_LENGTH
