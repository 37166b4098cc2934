"""The verdict of the chaos harness: each promise that is broken in the evidence is named."""

from dataclasses import replace

import pytest

from benchmarks.chaos.evidence import CancelTold, Evidence, Harm, Told
from benchmarks.chaos.schedule import FaultKind
from benchmarks.chaos.verify import verify
from shared.run import BusyPolicy, CancelResult, RunError, RunStatus
from tests.unit.benchmarks.sample import BEGAN, CONVERSATION, Story, evidence, spec


def broken(found: Evidence) -> set[str]:
    """The names of the checks that found something."""
    return {violation.check for violation in verify(found).violations}


def test_what_went_well_has_no_violation() -> None:
    """And everything is counted."""
    findings = verify(evidence(Story(), Story(spec("second"), began=BEGAN + 10)))
    assert findings.violations == []
    assert findings.counts["messages expected"] == findings.counts["messages stored"] == 10
    assert findings.counts["tool executions"] == findings.counts["model executions"] == 4
    assert findings.counts["watched messages"] == 20


# --- histories ------------------------------------------------------------------------------------


def test_a_message_that_is_stored_twice_is_named() -> None:
    """Under a new position, as a worker would store it that does not know of the first."""
    story = Story()
    story.messages.append(story.message(story.messages[-1], 5, 6))
    story.sightings.clear()
    findings = verify(evidence(story))
    assert "duplicated" in {violation.check for violation in findings.violations}
    assert findings.counts["messages duplicated"] == 1


def test_an_entry_that_is_stored_twice_is_named() -> None:
    """With its id and position, as an append would store it that was retried."""
    story = Story()
    story.messages.append(story.messages[-1])
    story.sightings.clear()
    assert broken(evidence(story)) >= {"duplicated", "message ids", "positions"}


def test_a_message_that_is_missing_is_named() -> None:
    """In the middle, and at the end."""
    story = Story()
    del story.messages[3]
    assert {"missing", "positions", "pairs", "watched"} == broken(evidence(story))
    story = Story()
    del story.messages[-1]
    findings = verify(evidence(story))
    assert {violation.check for violation in findings.violations} == {"missing", "watched"}
    assert findings.counts["messages missing"] == 1


def test_an_orphan_result_is_named() -> None:
    """One without a call in front of it."""
    story = Story()
    story.messages.insert(1, story.result(1, 0))
    story.sightings.clear()
    findings = verify(evidence(story))
    assert "pairs" in {violation.check for violation in findings.violations}
    assert findings.counts["orphan calls"] == 1


def test_parallel_results_may_come_in_any_order() -> None:
    """The one that ends first is stored first."""
    story = Story()
    story.messages[2:4] = [story.result(2, 1), story.result(3, 0)]
    assert verify(evidence(story)).violations == []


def test_messages_of_two_runs_that_mix_are_named() -> None:
    """At most one run at a time writes to a conversation."""
    first, second = Story(), Story(spec("second"))
    mixed = [*first.messages[:2], *second.messages, *first.messages[2:]]
    found = evidence(first, second, histories={CONVERSATION: mixed})
    assert "one writer" in broken(found)


def test_a_write_of_an_earlier_attempt_behind_one_of_a_later_is_named() -> None:
    """The zombie's message is in its right place, and yet should have been refused."""
    story = Story()
    story.messages[2] = story.result(2, 0, attempt=2)
    story.executions.append(story.execution("tool", 0, started=2, attempt=2))
    assert broken(evidence(story)) == {"fencing"}


@pytest.mark.parametrize(("kept", "closed"), [(1, 0), (2, 2), (3, 1), (4, 0)])
def test_a_run_that_was_cancelled_holds_a_beginning(kept: int, closed: int) -> None:
    """Wherever it was cut, open calls have results that say so."""
    story = _cancelled(kept, closed)
    assert verify(evidence(story, cancels=_cancels(story))).violations == []


def test_a_call_that_a_cancel_left_open_is_named() -> None:
    """The conversation could not be used any more."""
    story = _cancelled(3, 0)
    assert broken(evidence(story, cancels=_cancels(story))) == {"missing", "pairs"}


def test_a_run_that_was_rolled_back_has_no_messages() -> None:
    """None at all."""
    story = _cancelled(2, 2)
    story.change(rollback_requested=True)
    assert "rolled back" in broken(evidence(story, cancels=_cancels(story)))
    story.messages.clear()
    assert verify(evidence(story, cancels=_cancels(story))).violations == []


# --- executions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["tool", "model"])
def test_what_was_finished_and_is_executed_again_is_named(what: str) -> None:
    """By a later attempt, or by the same one, once the store had the result."""
    for attempt in (1, 2):
        story = Story()
        story.executions.append(story.execution(what, 0, started=8, attempt=attempt))
        findings = verify(evidence(story))
        assert [violation.check for violation in findings.violations] == [
            f"finished {what} executed again"
        ]
        assert findings.counts[f"finished {what} executed again"] == 1


@pytest.mark.parametrize("what", ["tool", "model"])
def test_what_was_in_flight_and_is_executed_again_is_counted(what: str) -> None:
    """It began before, and its worker died before its result was stored."""
    story = Story()
    story.executions.insert(0, story.execution(what, 0, started=0.5, attempt=0))
    findings = verify(evidence(story))
    assert findings.violations == []
    assert findings.counts[f"{what} in flight, executed again"] == 1


def test_a_result_without_an_execution_is_named() -> None:
    """Or the journal would prove nothing."""
    story = Story()
    del story.executions[1]
    assert broken(evidence(story)) == {"journal"}


# --- submits and ends -----------------------------------------------------------------------------


def test_a_run_that_does_not_end_is_named() -> None:
    """Nobody is stuck."""
    story = Story()
    story.change(status=RunStatus.RUNNING)
    assert "ended" in broken(evidence(story))


def test_a_run_that_fails_for_no_reason_of_its_own_is_named() -> None:
    """Losing workers is none."""
    story = Story()
    story.change(status=RunStatus.FAILED, error=RunError(code="worker_lost", message="3 died"))
    assert "status" in broken(evidence(story))


def test_a_run_that_is_cancelled_though_nobody_asked_is_named() -> None:
    """Its history is sound, and still."""
    assert broken(evidence(_cancelled(4, 0))) == {"status"}


def test_a_run_that_waited_is_not_cancelled_by_one_that_interrupts() -> None:
    """Only the active one is, which had started when the other one came."""
    interrupting = Story(spec("third", on_busy=BusyPolicy.INTERRUPT), began=BEGAN + 3)
    interrupting.change(started_at=Story(began=BEGAN + 20).run.started_at)
    active = _cancelled(4, 0)
    assert verify(evidence(active, interrupting)).violations == []
    active.change(started_at=Story(began=BEGAN + 5).run.started_at)
    assert "status" in broken(evidence(active, interrupting))


def test_an_outcome_that_changes_is_named() -> None:
    """What a caller was told stays true."""
    story = Story()
    assert broken(evidence(story, outcomes={story.run.id: RunStatus.FAILED})) == {"outcome"}
    assert broken(evidence(story, outcomes={})) == {"outcome"}, "nobody was told"


def test_a_run_that_was_accepted_and_is_gone_is_named() -> None:
    """Accepted means kept."""
    assert "accepted" in broken(evidence(Story(), runs=[], histories={}))


def test_a_submit_that_was_refused_and_left_a_run_is_named() -> None:
    """An error means that nothing stays, but for a store that gave no answer."""
    story = Story()
    for error, expected in (
        ("BrokerUnavailableError", {"refused means nothing stored"}),
        ("StoreUnavailableError", set()),
    ):
        story.told = [Told("first", BEGAN, 0.1, error=error)]
        assert broken(evidence(story)) == expected


def test_two_runs_under_one_key_are_named() -> None:
    """Whether both were told of or only one."""
    first, second = Story(), Story(began=BEGAN + 10)
    assert "one key, one run" in broken(evidence(first, second))
    second.told.clear()
    assert "refused means nothing stored" in broken(evidence(first, second))


def test_an_error_that_says_nothing_clear_is_named() -> None:
    """Of a submit, only the named ones are clear; a conversation is busy only if it is."""
    story = Story()
    story.told.append(Told("first", BEGAN, 0.1, error="CorruptEntryError"))
    assert broken(evidence(story)) == {"submit"}
    rejected = Story(spec("second", on_busy=BusyPolicy.REJECT), began=BEGAN + 10)
    rejected.told.append(Told("second", BEGAN + 8, 0.1, error="ConversationBusyError"))
    assert broken(evidence(Story(), rejected)) == {"reject"}


def test_a_cancel_that_was_told_and_not_done_is_named() -> None:
    """Cancelled at once means that nothing was executed."""
    story = Story()
    cancels = [CancelTold("first", story.run.id, CancelResult.CANCELLED)]
    assert broken(evidence(story, cancels=cancels)) == {"cancel"}


# --- lines ----------------------------------------------------------------------------------------


def test_runs_that_overtake_are_named() -> None:
    """First come, first served."""
    first, second = Story(), Story(spec("second"), began=BEGAN + 10)
    first.told = [replace(first.told[0], at=BEGAN + 11)]
    second.told = [replace(second.told[0], at=BEGAN)]
    assert broken(evidence(first, second)) == {"first come, first served"}


def test_an_interrupting_run_that_has_to_wait_is_named() -> None:
    """It goes before those that waited when it came."""
    waiting = Story(spec("second"), began=BEGAN + 10)
    waiting.change(created_at=Story().run.created_at)
    interrupting = Story(spec("third", on_busy=BusyPolicy.INTERRUPT), began=BEGAN + 20)
    interrupting.change(created_at=Story(began=BEGAN + 1).run.created_at)
    assert broken(evidence(Story(), waiting, interrupting)) == {"who interrupts goes first"}


# --- watchers -------------------------------------------------------------------------------------


def test_what_a_watcher_missed_or_saw_twice_is_named() -> None:
    """Each message once, in the stored order."""
    for spoil in (
        lambda ids: ids[1:],
        lambda ids: (*ids, ids[-1]),
        lambda ids: tuple(reversed(ids)),
        lambda ids: (*ids, "another"),
    ):
        story = Story()
        seen = story.sightings[0]
        story.sightings[0] = replace(seen, ids=spoil(seen.ids))
        assert broken(evidence(story)) == {"watched"}


def test_a_watcher_that_broke_off_is_named() -> None:
    """And one that was told of another end."""
    story = Story()
    story.sightings[0] = replace(story.sightings[0], error="StoreUnavailableError")
    story.sightings[1] = replace(story.sightings[1], final=None)
    assert broken(evidence(story)) == {"watcher", "watched end"}


# --- the rest -------------------------------------------------------------------------------------


def test_leftovers_and_slow_exits_are_named() -> None:
    """A worker leaves within its grace, and ended runs leave no index behind."""
    harm = Harm(FaultKind.TERMINATE, BEGAN, BEGAN + 40, "worker", exit_s=40.0)
    found = evidence(Story(), leftovers=["a lease"], harms=[harm])
    assert broken(found) == {"leftovers", "deploy"}


def _cancelled(kept: int, closed: int) -> Story:
    """A run that was stopped when it had `kept` messages, with so many calls closed for it."""
    story = Story()
    story.change(status=RunStatus.CANCELLED)
    del story.messages[kept:]
    story.messages += [story.closing(kept + index, 2 - closed + index) for index in range(closed)]
    ids = tuple(message.id for message in story.messages)
    story.sightings = [replace(story.sightings[0], ids=ids)]
    return story


def _cancels(story: Story) -> list[CancelTold]:
    return [CancelTold("first", story.run.id, CancelResult.REQUESTED)]
