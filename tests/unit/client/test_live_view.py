"""The live view: what events make of a run, step by step."""

import io

from rich.console import Console

from agent_client.live_view import (
    LiveRun,
    after,
    ended,
    render_text,
    resumed,
)
from agent_client.live_view.plain import message_line
from agent_client.live_view.screen import draw_message
from shared.event import MessageEvent
from shared.message import (
    Covered,
    Draft,
    Role,
    Usage,
    summary_draft,
)
from shared.run import RunStatus
from tests.unit.client.telling import (
    answers,
    at,
    delta,
    notes,
    record,
    rounds,
    status,
    stored,
    story,
    told,
)


def test_a_text_grows_with_its_deltas_and_its_message_replaces_it() -> None:
    """What a reader sees is first what was streamed, then what was stored, never both."""
    run = told(delta("Let ", 1), delta("me", 1))
    assert [(each.text, each.is_stored) for each in rounds(run)] == [("Let me", False)]
    run = after(run, stored(1, 1, Role.ASSISTANT, "Let me look."))
    assert [(each.text, each.is_stored) for each in rounds(run)] == [("Let me look.", True)]


def test_a_delta_behind_its_message_changes_nothing() -> None:
    """Deltas and messages come from two logs, so the whole may come before its last piece."""
    run = told(stored(1, 1, Role.ASSISTANT, "done"))
    assert after(run, delta("ne", 1)).blocks == run.blocks


def test_a_summary_is_a_note_about_the_run_and_its_tokens_count() -> None:
    """People see what the model is shown in the place of older messages, and what it cost."""
    summary = summary_draft(
        "Ada has room 7.",
        Covered(first="a.0", last="b.3", count=9),
        usage=Usage(input_tokens=90, output_tokens=8),
    )
    event = stored(1, 1, **{name: getattr(summary, name) for name in Draft.model_fields})
    run = told(event)
    [note] = notes(run)
    assert note == "summary of 9 messages before this run, for the model: Ada has room 7."
    assert (run.input_tokens, run.output_tokens) == (90, 8)
    assert note in message_line(event.message)
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(draw_message(event.message))
    assert note in console.export_text()


def test_each_result_closes_the_first_open_call_that_it_fits() -> None:
    """Calls of one message may share an id; their results still find one call each."""
    first, second = rounds(told(*story()))[0].calls
    assert (first.result, first.outcome, first.took_s(at(99))) == ("rain", "success", 0.5)
    assert (second.outcome, second.took_s(at(99))) == ("failed", 2.0)


def test_a_result_whose_call_was_not_seen_is_shown_all_the_same() -> None:
    """A watcher who resumes without the history still learns what tools answered."""
    [call] = rounds(told(answers(1, 4, "weather", "rain")))[0].calls
    assert (call.name, call.result, call.is_open) == ("weather", "rain", False)


def test_a_take_over_is_said_and_voids_what_was_being_streamed() -> None:
    """The new worker starts the answer over; the half answer of the dead one must not stay."""
    run = told(
        status(0, RunStatus.RUNNING), delta("half an ans", 1), status(5, RunStatus.RUNNING, 2)
    )
    assert rounds(run) == []
    assert notes(run) == ["taken over by worker-2, which goes on after the last stored message"]
    run = after(after(run, delta("late", 1, attempt=1)), delta("whole", 1, attempt=2))
    assert [each.text for each in rounds(run)] == ["whole"]


def test_take_overs_are_counted_from_the_second_one() -> None:
    """Who sees the third lease of a run learns that it was not the first accident."""
    run = told(*(status(each, RunStatus.RUNNING, each) for each in (1, 2, 3)))
    assert "2 times so far" in notes(run)[-1]


def test_a_take_over_that_no_event_told_of_is_known_at_the_end() -> None:
    """Events are kept for minutes only; the record of the run remembers its attempts."""
    assert "taken over" in notes(ended(told(), record(attempts=2, worker_id="w-2")))[0]


def test_a_rollback_is_said() -> None:
    """The messages that were shown are not in the history any more."""
    run = told(*story()[:6], status(4, RunStatus.CANCELLED, rolled_back=True))
    assert notes(run) == ["rolled back: the messages of this run were removed from the history"]


def test_tokens_are_summed_up_while_the_run_goes_on() -> None:
    """The bar shows what was spent so far, and the record's figures once there is one."""
    run = told(*story())
    assert (run.input_tokens, run.output_tokens) == (2216, 20)
    run = ended(run, record(usage=Usage(input_tokens=5000)))
    assert (run.input_tokens, run.output_tokens) == (5000, 0)


def test_only_what_cannot_change_any_more_is_settled() -> None:
    """What is printed for good can neither get another result nor become the answer."""
    open_calls, closed_calls = told(*story()[:7]), told(*story()[:8])
    assert not open_calls.is_settled(0)
    assert closed_calls.is_settled(0)
    with_answer = told(*story()[:-1])
    assert [with_answer.is_settled(index) for index in (0, 1)] == [True, False]
    assert told(*story()).is_settled(1)


def test_a_resumed_watcher_sees_open_calls_and_counts_what_it_saw() -> None:
    """Coming back shows the calls whose results are still due, and numbers rounds on."""
    seen = [event.message for event in story()[:7] if isinstance(event, MessageEvent)]
    run = resumed(LiveRun.of(record()), record(), seen)
    assert [call.is_open for call in run.calls] == [False, True]
    run = after(after(run, story()[7]), story()[9])
    assert run.rounds == 2
    seen += [event.message for event in story()[7:8] if isinstance(event, MessageEvent)]
    later = resumed(LiveRun.of(record()), record(), seen)
    assert (later.blocks, later.rounds) == ((), 1)
    assert "… 1 round before this" in render_text(later)


def test_a_resumed_watcher_hears_of_a_take_over_that_it_missed() -> None:
    """The take-over lies behind the cursor, whatever the record says by now."""
    run = resumed(LiveRun.of(record()), record(attempts=2), [])
    assert notes(run) == []
    assert "worker-2" in notes(after(run, status(5, RunStatus.RUNNING, 2)))[0]
