"""Messages as values."""

import pytest
from pydantic import ValidationError

from shared.message import (
    Covered,
    DataPart,
    Draft,
    MediaPart,
    Message,
    MessageKind,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolOutcome,
    Usage,
    summary_draft,
    tool_result_draft,
    user_draft,
)
from shared.version import SUMMARY_VERSION


class TestDraft:
    def test_its_text_is_what_is_said(self) -> None:
        """Thinking, media and data are no text."""
        parts = (
            TextPart(text="a"),
            ThinkingPart(text="hm"),
            MediaPart(media_type="image/png", url="https://x.org"),
            DataPart(value="b"),
            TextPart(text="c"),
        )
        assert Draft(role=Role.USER, content=parts).text == "ac"
        assert user_draft("hi").text == "hi"
        assert Draft(role=Role.ASSISTANT).text == ""

    def test_a_result_names_its_call(self) -> None:
        """Name and id of the call, and how it ended."""
        call = ToolCall(id="1", name="look", arguments="{}")
        draft = tool_result_draft(call, "gone", outcome=ToolOutcome.FAILED)
        assert (draft.role, draft.kind) == (Role.TOOL, MessageKind.TOOL_RESULT)
        assert (draft.tool_name, draft.tool_call_id) == ("look", "1")
        assert draft.outcome is ToolOutcome.FAILED

    def test_a_summary_says_what_it_covers(self) -> None:
        """By ids, and it is a note that older readers have to know of."""
        covers = Covered(first="a.0", last="b.3", count=9)
        draft = summary_draft("all is well", covers, usage=Usage(requests=1))
        assert (draft.role, draft.kind, draft.covers) == (Role.SYSTEM, MessageKind.SUMMARY, covers)
        message = Message.from_draft(draft, run_id="run", position=1)
        assert message.version == SUMMARY_VERSION
        assert Message.model_validate_json(message.model_dump_json()) == message
        assert [kind for kind in MessageKind if kind.is_note] == [
            MessageKind.ERROR,
            MessageKind.SUMMARY,
        ]

    def test_it_does_not_change(self) -> None:
        """Values are frozen."""
        with pytest.raises(ValidationError):
            user_draft("hi").content = "ho"  # type: ignore[misc] # that is the point


class TestMessage:
    def test_a_draft_gets_its_place(self) -> None:
        """Everything that was drafted, with an id that two writes of one message share."""
        draft = Draft(role=Role.ASSISTANT, content="hi", usage=Usage(requests=1), metadata={"a": 1})
        message = Message.from_draft(draft, run_id="run", position=3)
        assert (message.id, message.run_id, message.position) == ("run.3", "run", 3)
        assert Draft(**{name: getattr(message, name) for name in Draft.model_fields}) == draft
        assert message.created_at.tzinfo is not None
        assert message.cursor is None

    def test_a_message_with_a_cursor_is_a_new_one(self) -> None:
        """The one without stays as it is."""
        message = Message.from_draft(user_draft("hi"), run_id="run", position=0)
        assert message.at("1-0").cursor == "1-0"
        assert message.cursor is None


class TestUsage:
    def test_usages_add_up(self) -> None:
        """Field by field; the total is of input and output."""
        added = Usage(input_tokens=1, output_tokens=2, requests=1) + Usage(
            input_tokens=10, cache_read_tokens=5, tool_calls=3
        )
        assert added == Usage(
            input_tokens=11, output_tokens=2, cache_read_tokens=5, requests=1, tool_calls=3
        )
        assert added.total_tokens == 13
