"""The window: whatever a conversation holds, a model sees whole pairs of calls and results."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.message import (
    Covered,
    Draft,
    EngineData,
    Message,
    MessageKind,
    Role,
    ToolCall,
    ToolOutcome,
    summary_draft,
    tool_result_draft,
    user_draft,
)
from shared.openai_chat import from_openai
from shared.window import NO_RESULT, build_window, pair_safe
from tests.model_server.recording import Recording, load_recordings
from tests.unit.shared.recordings import recordings_file

SIZES = range(1, 31)

ids = st.sampled_from(["", "a", "b"])
names = st.sampled_from(["look", "book"])
calls = st.lists(st.builds(ToolCall, id=ids, name=names, arguments=st.just("{}")), max_size=3)
assistants = calls.map(
    lambda made: Draft(
        role=Role.ASSISTANT,
        kind=MessageKind.TOOL_CALL if made else MessageKind.MESSAGE,
        content=None if made else "hello",
        tool_calls=tuple(made),
    )
)
results = st.builds(
    Draft,
    role=st.just(Role.TOOL),
    kind=st.just(MessageKind.TOOL_RESULT),
    content=st.text(max_size=3),
    tool_name=names,
    tool_call_id=st.none() | ids,
    outcome=st.just(ToolOutcome.SUCCESS),
)
others = st.sampled_from(
    [
        user_draft("hi"),
        Draft(role=Role.SYSTEM, content="be kind"),
        Draft(role=Role.ASSISTANT, kind=MessageKind.ERROR, content="it broke"),
        summary_draft("all is well", Covered(first="a.0", last="a.1", count=2)),
    ]
)
histories = st.lists(st.one_of(assistants, results, others), max_size=25)


def number(drafts: Sequence[Draft]) -> list[Message]:
    """Give each draft a place in one run."""
    return [
        Message.from_draft(draft, run_id="run", position=position)
        for position, draft in enumerate(drafts)
    ]


def assert_in_order(messages: Sequence[Draft]) -> None:
    """Check the rule from the outside: calls, then as many results with the same ids, and so on."""
    place = 0
    while place < len(messages):
        message = messages[place]
        assert message.role is not Role.TOOL, f"orphan result at {place}"
        assert not message.kind.is_note
        place += 1
        count = len(message.tool_calls)
        answers = messages[place : place + count]
        assert all(answer.role is Role.TOOL for answer in answers)
        asked = Counter(call.id for call in message.tool_calls)
        assert asked == Counter(answer.tool_call_id or "" for answer in answers)
        place += count


class TestPairSafe:
    @given(history=histories)
    def test_every_call_is_followed_by_its_results(self, history: list[Draft]) -> None:
        """Whatever history comes in, what comes out is in order."""
        assert_in_order(pair_safe(history))

    @given(history=histories)
    def test_only_orphan_results_and_notes_are_left_out(self, history: list[Draft]) -> None:
        """All else stays, in its order; what is new says that it is no result."""
        messages = number(history)
        safe = pair_safe(messages)
        kept = [message for message in safe if message.content != NO_RESULT]
        positions = [message.position for message in kept]
        assert positions == sorted(set(positions))
        spoken = [
            message.position
            for message in messages
            if message.role is not Role.TOOL and not message.kind.is_note
        ]
        assert [one.position for one in kept if one.role is not Role.TOOL] == spoken
        assert len({message.id for message in safe}) == len(safe)

    @given(history=histories)
    def test_a_history_in_order_comes_back_equal(self, history: list[Draft]) -> None:
        """Doing it twice changes nothing more."""
        once = pair_safe(history)
        assert pair_safe(once) == once

    def test_a_missing_result_is_put_in_behind_those_that_are_there(self) -> None:
        """It names its call, says that it was cancelled, and carries nothing of the caller."""
        first, second = (ToolCall(id="x", name=name, arguments="{}") for name in ("look", "book"))
        caller = Draft(
            role=Role.ASSISTANT,
            kind=MessageKind.TOOL_CALL,
            tool_calls=(first, second),
            metadata={"k": 1},
            engine=EngineData(name="e", version=1, data=None),
        )
        result = tool_result_draft(second, "booked")
        missing = tool_result_draft(first, NO_RESULT, outcome=ToolOutcome.CANCELLED)
        after = user_draft("hi")
        assert pair_safe([caller, result, after]) == [caller, result, missing, after]

    def test_a_call_at_the_end_is_answered(self) -> None:
        """An earlier run that ended between call and result leaves nothing open."""
        call = ToolCall(id="x", name="look", arguments="{}")
        caller = Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(call,))
        [_, added] = pair_safe(number([caller]))
        assert (added.id, added.outcome) == ("run.0.0", ToolOutcome.CANCELLED)

    def test_an_error_between_call_and_result_separates_nothing(self) -> None:
        """A note for people is taken out before pairs are looked for."""
        call = ToolCall(id="x", name="look", arguments="{}")
        caller = Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(call,))
        note = Draft(role=Role.ASSISTANT, kind=MessageKind.ERROR, content="late")
        result = tool_result_draft(call, "seen")
        assert pair_safe([caller, note, result]) == [caller, result]

    def test_ids_that_are_used_again_pair_with_the_call_before_them(self) -> None:
        """A result belongs to the calls it stands behind, not to an older call of the same id."""
        call = ToolCall(id="x", name="look", arguments="{}")
        caller = Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(call,))
        first, second = tool_result_draft(call, "1"), tool_result_draft(call, "2")
        assert pair_safe([caller, first, caller, second]) == [caller, first, caller, second]
        assert pair_safe([caller, first, second]) == [caller, first]


class TestBuildWindow:
    @given(history=histories, size=st.integers(1, 12))
    def test_it_is_the_longest_end_that_is_in_order(self, history: list[Draft], size: int) -> None:
        """At most `size` with the input, nothing torn, and nothing left out without need."""
        messages = number(history)
        window = list(build_window(messages, size=size))
        assert_in_order(window)
        safe = pair_safe(messages)
        longest = next(
            safe[start:]
            for start in range(max(0, len(safe) - size + 1), len(safe) + 1)
            if safe[start : start + 1] == [] or safe[start].role is not Role.TOOL
        )
        assert window == longest

    def test_a_window_of_one_is_the_input_alone(self) -> None:
        """The run's own input takes the only place."""
        assert build_window(number([user_draft("hi")]), size=1) == ()

    @pytest.mark.parametrize("name", ["conversations.jsonl", "parallel_calls.jsonl"])
    def test_recorded_conversations_at_every_size(self, name: str) -> None:
        """At the start of each recorded run, and in its middle, the model sees whole pairs."""
        for recording in load_recordings(recordings_file(name)):
            self._check_runs(recording)

    def _check_runs(self, recording: Recording) -> None:
        messages = number(from_openai(recording.replayable))
        shuffled = random.Random(recording.id)
        starts = [place for place, one in enumerate(messages) if one.role is Role.USER]
        for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
            taken_over_at = shuffled.randint(start + 1, end)
            for size in SIZES:
                window = build_window(messages[:start], size=size)
                assert len(window) + 1 <= size
                assert_in_order([*window, *messages[start:end]])
                assert list(window) == messages[start - len(window) : start]
                # Taken over in the middle: only calls at the very end may be open.
                seen = [*window, *messages[start:taken_over_at]]
                assert pair_safe(seen)[: len(seen)] == seen
                assert messages[start] in seen
