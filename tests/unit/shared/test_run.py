"""Runs: what may follow what, and what their outcomes say."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from shared.errors import RunCancelledError, RunFailedError
from shared.run import (
    TRANSITIONS,
    BusyPolicy,
    Ending,
    NewRun,
    Outcome,
    Run,
    RunError,
    RunOptions,
    RunStatus,
)

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = RunStatus


class TestStatus:
    def test_the_table_of_transitions(self) -> None:
        """Exactly these; the picture at the top of the module shows them."""
        assert {(before, after) for before, afters in TRANSITIONS.items() for after in afters} == {
            (QUEUED, RUNNING),
            (QUEUED, CANCELLED),
            (QUEUED, FAILED),
            (RUNNING, QUEUED),
            (RUNNING, COMPLETED),
            (RUNNING, FAILED),
            (RUNNING, CANCELLED),
        }
        assert set(TRANSITIONS) == set(RunStatus)

    def test_three_are_final(self) -> None:
        """Final is what nothing follows."""
        assert {status for status in RunStatus if status.is_final} == {COMPLETED, FAILED, CANCELLED}

    def test_every_final_status_can_be_reached(self) -> None:
        """From queued, over the table, each status is on some way."""
        reached, todo = {QUEUED}, [QUEUED]
        while todo:
            following = TRANSITIONS[todo.pop()] - reached
            reached |= following
            todo += following
        assert reached == set(RunStatus)

    def test_the_table_cannot_be_changed(self) -> None:
        """Neither by replacing an entry nor within one."""
        with pytest.raises(TypeError):
            TRANSITIONS[COMPLETED] = frozenset({QUEUED})  # type: ignore[index] # that is the point


class TestNewRun:
    def test_a_run_in_a_conversation_writes_to_it(self) -> None:
        """Its history is the conversation; without one it has its own."""
        assert NewRun(id="run-1", agent="a", input="x", conversation_id="c").history_id == "c"
        assert NewRun(id="run-1", agent="a", input="x").history_id == "~run-1"

    def test_what_nobody_decided_is_the_default(self) -> None:
        """A second run waits, priority is in the middle, all messages are stored at once."""
        new = NewRun(id="run-1", agent="a", input="x")
        assert (new.on_busy, new.priority) == (BusyPolicy.ENQUEUE, 5)
        assert new.options == RunOptions(save_on_iteration=True)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"priority": 10},
            {"priority": -1},
            {"on_busy": "push"},
            {"options": {"history_size": 0}},
            {"options": {"time_limit_s": 0}},
            {"options": {"max_rounds": 0}},
            {"metadata": {"a": object()}},
        ],
    )
    def test_what_cannot_be_is_refused(self, wrong: dict[str, object]) -> None:
        """Before it comes near a store."""
        with pytest.raises(ValidationError):
            NewRun.model_validate({"id": "run-1", "agent": "a", "input": "x"} | wrong)


class TestOutcome:
    def run(self, status: RunStatus, error: RunError | None = None) -> Run:
        """A run that ended."""
        return Run(
            id="run-1",
            agent="a",
            input="x",
            created_at=datetime.now(UTC),
            status=status,
            output="done" if status is COMPLETED else None,
            rounds=2,
            error=error,
        )

    def test_a_completed_run_gives_its_output(self) -> None:
        """`raise_for_status` returns the outcome itself."""
        outcome = self.run(COMPLETED).outcome
        assert outcome.raise_for_status() is outcome
        assert (outcome.run_id, outcome.output, outcome.rounds) == ("run-1", "done", 2)

    @pytest.mark.parametrize(
        ("status", "kind"), [(FAILED, RunFailedError), (CANCELLED, RunCancelledError)]
    )
    def test_any_other_raises_with_the_reason(
        self, status: RunStatus, kind: type[Exception]
    ) -> None:
        """The message carries run, code and words; without a reason it says what happened."""
        error = RunError(code="max_rounds", message="50 model calls")
        with pytest.raises(kind, match=r"run-1 .*\(max_rounds\): 50 model calls"):
            self.run(status, error).outcome.raise_for_status()
        with pytest.raises(kind, match="run-1"):
            self.run(status).outcome.raise_for_status()

    def test_a_run_that_was_rolled_back_says_so(self) -> None:
        """Its messages are gone, which who waits for it would not guess from `cancelled`."""
        asked = self.run(CANCELLED).model_copy(update={"rollback_requested": True})
        assert asked.outcome.rolled_back
        with pytest.raises(RunCancelledError, match="rolled back"):
            asked.outcome.raise_for_status()
        failed = self.run(FAILED).model_copy(update={"rollback_requested": True})
        assert not failed.outcome.rolled_back, "its messages could not be removed"
        assert not self.run(CANCELLED).outcome.rolled_back

    @pytest.mark.parametrize("status", [QUEUED, RUNNING])
    def test_an_ending_is_final(self, status: RunStatus) -> None:
        """A worker cannot finish a run into a status that goes on."""
        with pytest.raises(ValidationError):
            Ending.model_validate({"status": status})

    def test_an_outcome_is_read_as_it_was_written(self) -> None:
        """JSON and back, with a structured output."""
        outcome = Outcome(run_id="run-1", status=COMPLETED, output={"a": [1, None]})
        assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome
