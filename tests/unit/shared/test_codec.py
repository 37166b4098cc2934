"""The stored form of values: lossless, open to newer fields, closed to anything else."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import decode, decode_message, encode
from shared.errors import CorruptEntryError, NewerVersionError
from shared.message import (
    DataPart,
    Draft,
    EngineData,
    MediaPart,
    Message,
    MessageKind,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolOutcome,
    Usage,
    tool_result_draft,
    user_draft,
)
from shared.run import Run
from shared.version import FORMAT_VERSION

# NUL and other control characters included; surrogates are a test of their own.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
parts = (
    st.builds(TextPart, text=texts)
    | st.builds(ThinkingPart, text=texts)
    | st.builds(MediaPart, media_type=texts, url=st.none() | texts, data=st.none() | texts)
    | st.builds(DataPart, value=json_values)
)
messages = st.builds(
    Message,
    role=st.sampled_from(Role),
    kind=st.sampled_from(MessageKind),
    content=st.none() | texts | st.lists(parts, max_size=3).map(tuple),
    tool_calls=st.lists(st.builds(ToolCall, id=texts, name=texts, arguments=texts)).map(tuple),
    tool_name=st.none() | texts,
    tool_call_id=st.none() | texts,
    outcome=st.none() | st.sampled_from(ToolOutcome),
    usage=st.none() | st.builds(Usage, input_tokens=st.integers(0, 9), requests=st.integers(0, 9)),
    metadata=st.dictionaries(texts, json_values, max_size=3),
    engine=st.none() | st.builds(EngineData, name=texts, version=st.integers(), data=json_values),
    id=texts,
    run_id=st.none() | texts,
    position=st.integers(0, 10**6),
    created_at=st.datetimes(
        min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone itself
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
    ),
)


def stored(**changes: Any) -> str:
    """A stored message in which some fields are different."""
    message = Message.from_draft(user_draft("hi"), run_id="run", position=0)
    return json.dumps(json.loads(encode(message)) | changes)


class TestRoundTrip:
    @given(message=messages)
    def test_a_message_comes_back_equal(self, message: Message) -> None:
        """Every field, whatever it holds."""
        assert decode_message(encode(message), cursor="1-0") == message.at("1-0")
        assert decode_message(encode(message).encode(), cursor="1-0") == message.at("1-0")

    @given(message=messages)
    def test_a_cursor_is_not_stored(self, message: Message) -> None:
        """It is where the message was found, not what it is."""
        assert encode(message.at("somewhere")) == encode(message)

    @given(message=messages, extra=json_values)
    def test_fields_of_later_are_passed_over(self, message: Message, extra: Any) -> None:
        """A newer process may add fields anywhere; this one reads what it knows."""
        body = json.loads(encode(message))
        body["added_later"] = extra
        for call in body.get("tool_calls", []):
            call["added_later"] = extra
        assert decode_message(json.dumps(body), cursor="1-0") == message.at("1-0")

    def test_what_is_empty_takes_no_room(self) -> None:
        """The stored names are compatibility data: they may be added to, never renamed."""
        body = json.loads(encode(Message.from_draft(user_draft("hi"), run_id="r", position=2)))
        assert list(body) == [
            "role", "kind", "content", "version", "id", "run_id", "position", "created_at",
        ]  # fmt: skip
        call = ToolCall(id="1", name="look", arguments="{}")
        assert json.loads(encode(tool_result_draft(call, (TextPart(text="seen"),)))) == {
            "role": "tool",
            "kind": "tool_result",
            "content": [{"type": "text", "text": "seen"}],
            "tool_name": "look",
            "tool_call_id": "1",
            "outcome": "success",
        }

    @given(text=st.text(max_size=10), key=st.text(max_size=5))
    def test_half_a_surrogate_pair_becomes_a_replacement_character(
        self, text: str, key: str
    ) -> None:
        """Models write such halves; the rest of the text is stored as it is."""
        message = Message.from_draft(user_draft(f"{text}\ud83d"), run_id="r", position=0)
        message = message.model_copy(update={"metadata": {key: [text, 1, None]}})
        read = decode_message(encode(message), cursor="1-0")
        assert read.text.endswith("\ufffd")
        assert len(read.metadata) == 1
        assert (read.id, read.created_at) == (message.id, message.created_at)

    def test_two_halves_become_the_character_that_they_are(self) -> None:
        """An emoji that arrived in two pieces is whole again."""
        draft = user_draft("\ud83d" + "\ude00")
        assert decode(Draft, encode(draft), where="test").text == "\N{GRINNING FACE}"


class TestRefusal:
    @pytest.mark.parametrize(
        "entry", ["", "{", "null", "[]", "7", '"hi"', "{}", b"\xff\xfe", '{"role":"user"}', "\x00"]
    )
    def test_what_is_not_a_message_is_corrupt(self, entry: str | bytes) -> None:
        """One named error, which says where the entry is."""
        with pytest.raises(CorruptEntryError, match="7-0") as caught:
            decode_message(entry, cursor="7-0")
        assert not isinstance(caught.value, NewerVersionError)

    @pytest.mark.parametrize(
        "changes",
        [
            {"role": "bot"},
            {"kind": "thought"},
            {"content": 7},
            {"content": [{"type": "hologram"}]},
            {"content": [{"text": "no discriminator"}]},
            {"position": -1},
            {"version": 0},
            {"version": "1"},
            {"created_at": "yesterday"},
            {"tool_calls": [{"id": "1"}]},
        ],
    )
    def test_a_field_of_another_kind_is_corrupt(self, changes: dict[str, Any]) -> None:
        """Nothing is guessed."""
        with pytest.raises(CorruptEntryError):
            decode_message(stored(**changes), cursor="7-0")

    def test_a_newer_version_says_so(self) -> None:
        """The reader is told to update, since the entry is not broken."""
        with pytest.raises(NewerVersionError, match="update"):
            decode_message(
                stored(version=FORMAT_VERSION + 1, content={"new": "form"}), cursor="7-0"
            )

    def test_a_deep_entry_does_not_break_the_reader(self) -> None:
        """Nesting without end is corrupt, not a stack overflow."""
        with pytest.raises(CorruptEntryError):
            decode_message("[" * 100_000, cursor="7-0")

    def test_other_values_name_where_they_were_found(self) -> None:
        """`decode` says which entry it could not read, and as what."""
        with pytest.raises(CorruptEntryError, match="run-1 is not a readable Run"):
            decode(Run, "{}", where="run-1")
