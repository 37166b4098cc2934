"""OpenAI's chat form: there and back without a difference, and faults by name."""

from typing import Any

import pytest

from shared.codec import decode, encode
from shared.errors import MalformedConversationError
from shared.message import (
    Covered,
    DataPart,
    Draft,
    MediaPart,
    MessageKind,
    Role,
    TextPart,
    ThinkingPart,
    ToolOutcome,
    summary_draft,
)
from shared.openai_chat import KEPT, from_openai, repair_openai, to_openai
from shared.window import pair_safe
from tests.model_server.recording import load_recordings
from tests.unit.shared.recordings import recordings_file

FAULTS = {
    "call_id_reused_in_conversation": "call id reused",
    "call_without_id": "call without id",
    "tool_message_without_id": "tool message without id",
    "unanswered_call": "unanswered call",
    "run_aborted_with_error": "aborted run",
    "empty_conversation": "empty conversation",
}
"""What the recordings call a fault, and the words for it here."""


def user(content: Any) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": content}


def call(call_id: object = "1", name: str = "look", arguments: object = "{}") -> dict[str, Any]:
    """A tool call."""
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def asking(*calls: dict[str, Any]) -> dict[str, Any]:
    """An assistant's message that calls tools."""
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(call_id: object = "1", content: object = "seen", **fields: object) -> dict[str, Any]:
    """A tool's message."""
    return {"role": "tool", "tool_call_id": call_id, "content": content} | fields


DONE = {"role": "assistant", "content": "done"}

WELL_FORMED: dict[str, list[dict[str, Any]]] = {
    "texts": [{"role": "system", "content": "be kind"}, user("hi"), DONE],
    "empty and missing content": [
        user(""),
        {"role": "assistant", "content": ""},
        asking(call()) | {"content": ""},
        result(content=""),
        {"role": "assistant", "tool_calls": [call("2")]},
        result("2", name="look"),
        {"role": "assistant", "content": None},
        {"role": "assistant"},
    ],
    "null tool calls": [DONE | {"tool_calls": None}, DONE | {"tool_calls": []}],
    "names and provider fields": [
        user("hi") | {"name": "Ada"},
        DONE | {"name": "bot", "annotations": [], "audio": {"id": "a"}},
        asking(call() | {"index": 0}),
        result(name="another name", cached=True),
        DONE,
    ],
    "developer": [{"role": "developer", "content": [{"type": "text", "text": "be kind"}]}, DONE],
    "raw arguments": [
        asking(call(arguments='{"a": 1 , "b":"\\u00e9"'), call("2", arguments="")),
        result("2", [{"type": "text", "text": "in parts"}]),
        result("1"),
        DONE,
    ],
    "refusals": [
        {"role": "assistant", "content": None, "refusal": "I may not."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        DONE | {"refusal": None},
    ],
    "media": [
        user(
            [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x.org/page.html"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                {"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg/%3E"}},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
                },
                {"type": "file", "file": {"file_data": "data:image/png;base64,aGk="}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "hologram", "depth": [1, True, 1.0]},
                {"type": "text"},
                {},
            ]
        ),
        DONE,
    ],
    "an old function call": [DONE | {"function_call": {"name": "look", "arguments": "{}"}}],
}


class TestRoundTrip:
    @pytest.mark.parametrize("messages", WELL_FORMED.values(), ids=WELL_FORMED)
    def test_a_conversation_comes_back_exactly(self, messages: list[dict[str, Any]]) -> None:
        """Equal, types included, also when it was stored in between."""
        drafts = from_openai(messages)
        stored = [decode(Draft, encode(draft), where="test") for draft in drafts]
        for back in (to_openai(drafts), to_openai(stored)):
            assert repr(_sorted(back)) == repr(_sorted(messages))

    @pytest.mark.parametrize("name", ["conversations.jsonl", "parallel_calls.jsonl"])
    def test_recorded_conversations_come_back_exactly(self, name: str) -> None:
        """All good recordings, and none of them needs anything kept beside our own fields."""
        recordings = list(load_recordings(recordings_file(name)))
        assert len(recordings) == {"conversations.jsonl": 100}.get(name, 60)
        for recording in recordings:
            drafts = from_openai(recording.replayable)
            assert to_openai(drafts) == list(recording.replayable)
            assert not any(draft.metadata for draft in drafts)


def _sorted(value: Any) -> Any:
    """The value with fields in alphabetic order, so that its `repr` tells true from 1."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


class TestTranslation:
    def test_calls_and_results_have_their_kinds(self) -> None:
        """Filters and live views see what each message is; a result knows its tool's name."""
        spoken, asked, answered, _ = from_openai([user("hi"), asking(call()), result(), DONE])
        assert (spoken.role, spoken.kind) == (Role.USER, MessageKind.MESSAGE)
        assert (asked.kind, asked.content) == (MessageKind.TOOL_CALL, None)
        assert asked.tool_calls[0].name == "look"
        assert (answered.kind, answered.tool_name) == (MessageKind.TOOL_RESULT, "look")
        assert answered.outcome is ToolOutcome.SUCCESS

    def test_media_become_media_parts(self) -> None:
        """Type, place and name of images, sounds and documents are ours to read."""
        [message, _] = from_openai(WELL_FORMED["media"])
        assert message.content is not None
        parts = list(message.content)[:8]
        assert parts == [
            TextPart(text="what is this?"),
            MediaPart(media_type="image/png", url="https://x.org/a.png"),
            MediaPart(media_type="image/*", url="https://x.org/page.html"),
            MediaPart(media_type="image/png", data="aGk="),
            MediaPart(media_type="image/svg+xml", url="data:image/svg+xml,%3Csvg/%3E"),
            MediaPart(media_type="audio/mpeg", data="aGk="),
            MediaPart(media_type="audio/wav", data="aGk="),
            MediaPart(media_type="application/pdf", data="aGk=", name="a.pdf"),
        ]

    def test_a_picture_is_not_stored_twice(self) -> None:
        """What is kept beside an image is its detail, not its bytes."""
        data = "aGk=" * 1000
        url = f"data:image/png;base64,{data}"
        part = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
        [draft] = from_openai([user([part])])
        assert data not in str(draft.metadata[KEPT])

    def test_a_refusal_can_be_read(self) -> None:
        """People see what the model said instead of an answer."""
        whole, part, _ = from_openai(WELL_FORMED["refusals"])
        assert (whole.text, part.text) == ("I may not.", "No.")

    def test_a_model_is_shown_neither_errors_nor_thinking(self) -> None:
        """Both are left out, and summaries, since what they stand for is there; a structured value
        is shown as its JSON."""
        error = Draft(role=Role.ASSISTANT, kind=MessageKind.ERROR, content="it broke")
        summary = summary_draft("all is well", Covered(first="a.0", last="a.1", count=2))
        thought = Draft(
            role=Role.ASSISTANT,
            content=(ThinkingPart(text="hm"), TextPart(text="so"), DataPart(value={"é": [1]})),
        )
        texts = [{"type": "text", "text": "so"}, {"type": "text", "text": '{"é": [1]}'}]
        assert to_openai([error, summary, thought]) == [{"role": "assistant", "content": texts}]

    def test_media_of_any_kind_are_shown_as_well_as_the_form_allows(self) -> None:
        """A document inline is a file, and one that lies elsewhere at least an address."""
        parts = (
            MediaPart(media_type="application/pdf", url="https://x.org/a.pdf"),
            MediaPart(media_type="video/mp4", data="aGk="),
            MediaPart(media_type="image/png", url="https://x.org/a.png"),
        )
        [shown] = to_openai([Draft(role=Role.USER, content=parts)])
        assert shown["content"] == [
            {"type": "text", "text": "https://x.org/a.pdf"},
            {"type": "file", "file": {"file_data": "data:video/mp4;base64,aGk="}},
            {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}},
        ]

    def test_a_kept_change_that_fits_no_more_is_harmless(self) -> None:
        """Somebody edited the message, or the metadata: what fits is put back."""
        changes: list[Any] = [
            {"fields": {"content": {"items": {"9": {"is": 1}}}}},
            {"is": 7},
            "x",
            [1],
        ]
        for kept in changes:
            [shown] = to_openai([Draft(role=Role.USER, content="new", metadata={KEPT: kept})])
            assert shown in ({"role": "user", "content": "new"}, {})


FAULTY: dict[str, tuple[list[Any], list[str]]] = {
    "nothing": ([], ["empty conversation"]),
    "no object": (["hi", user("hi")], ["message 0: not an object"]),
    "role": ([{"role": "bot", "content": "hi"}, user("hi")], ["message 0: wrong role 'bot'"]),
    "no role": ([{"content": "hi"}, user("hi")], ["message 0: wrong role 'None'"]),
    "not JSON": ([user({1, 2}), user("hi")], ["message 0: holds something that JSON cannot"]),
    "no content": ([{"role": "user"}], ["message 0: no content, in role user"]),
    "number": ([user(7)], ["message 0: content is neither text nor a list"]),
    "part": ([user(["hi"])], ["message 0: a content part is not an object"]),
    "calls of a user": ([user("hi") | {"tool_calls": [call()]}], ["tool calls of role user"]),
    "calls": ([DONE | {"tool_calls": "look"}], ["tool_calls is not an array"]),
    "no call": ([asking({"id": "1"}), DONE], ["names no function"]),
    "no name": ([asking({"function": {}}), DONE], ["names no function"]),
    "arguments": (
        [asking(call(arguments={"a": 1})), result(), DONE],
        ["message 0: the arguments of 'look' are not a string"],
    ),
    "call without id": (
        [user("hi"), asking(call(None)), result(None), DONE],
        ["message 1: call without id, of 'look'", "message 2: tool message without id"],
    ),
    "calls without id": (
        [asking(call("", "look"), call("", "book")), result("", name="book"), result(""), DONE],
        ["call without id", "call without id", "tool message without id", "tool message without"],
    ),
    "result without id": ([asking(call()), result(None, name="look"), DONE], ["tool message"]),
    "reused": (
        [asking(call()), result(), DONE, asking(call(name="book")), result(), DONE],
        ["message 3: call id reused: '1', now of 'book'"],
    ),
    "reused in one message": (
        [asking(call(), call(name="book")), result(content="a"), result(content="b"), DONE],
        ["message 0: call id reused"],
    ),
    "unanswered": ([asking(call()), user("hi"), DONE], ["message 0: unanswered call '1'"]),
    "unanswered at the end": ([asking(call())], ["message 0: unanswered call '1' of 'look'"]),
    "orphan": ([user("hi"), result(), DONE], ["message 1: orphan tool result"]),
    "answered twice": ([asking(call()), result(), result(), DONE], ["message 2: orphan tool"]),
    "result after an answer": (
        [asking(call()), user("hi"), result(), DONE],
        ["message 0: unanswered call", "message 2: orphan tool result"],
    ),
    "aborted": ([asking(call()), result()], ["message 1: aborted run"]),
}


class TestFaults:
    @pytest.mark.parametrize(("messages", "faults"), FAULTY.values(), ids=FAULTY)
    def test_every_fault_is_refused_in_words(self, messages: list[Any], faults: list[str]) -> None:
        """The error lists all faults, each with the number of its message, and says what to do."""
        with pytest.raises(MalformedConversationError, match="repair_openai") as caught:
            from_openai(messages)
        assert len(caught.value.faults) == len(faults)
        for told, expected in zip(caught.value.faults, faults, strict=True):
            assert expected in told
            assert told in str(caught.value)

    @pytest.mark.parametrize(("messages", "faults"), FAULTY.values(), ids=FAULTY)
    def test_every_fault_is_repaired_in_words(self, messages: list[Any], faults: list[str]) -> None:
        """There is a repair for each fault, and what comes out is in order."""
        repaired = repair_openai(messages)
        assert len(repaired.repairs) == len(faults)
        for told, expected in zip(repaired.repairs, faults, strict=True):
            assert expected in told
        assert_repaired(repaired.drafts)

    def test_a_repair_keeps_what_it_can(self) -> None:
        """Results follow their calls to the new ids, and nothing that was said is lost."""
        messages, _ = FAULTY["calls without id"]
        first, second = repair_openai(messages).drafts[1:3]
        assert (first.tool_name, first.tool_call_id) == ("book", "call-0-1")
        assert (second.tool_name, second.tool_call_id) == ("look", "call-0-0")

    def test_a_reused_id_is_renamed_with_its_result(self) -> None:
        """The first call keeps its id; results in one message answer in the order of the calls."""
        messages, _ = FAULTY["reused in one message"]
        asked, *answered = repair_openai(messages).drafts[:3]
        assert [call.id for call in asked.tool_calls] == ["1", "1-2"]
        assert [(one.tool_call_id, one.content) for one in answered] == [("1", "a"), ("1-2", "b")]

    def test_an_unanswered_call_gets_a_cancelled_result(self) -> None:
        """The model sees that there is no result, and people see why."""
        messages, _ = FAULTY["unanswered"]
        added = repair_openai(messages).drafts[1]
        assert (added.tool_call_id, added.outcome) == ("1", ToolOutcome.CANCELLED)

    def test_what_is_well_formed_needs_no_repair(self) -> None:
        """Repairing a good conversation is importing it."""
        for messages in WELL_FORMED.values():
            repaired = repair_openai(messages)
            assert repaired.repairs == ()
            assert list(repaired.drafts) == from_openai(messages)

    def test_what_was_given_is_not_changed(self) -> None:
        """Mending works on a copy."""
        messages = [asking(call(None, arguments={})), result(None), DONE]
        before = repr(messages)
        repair_openai(messages)
        assert repr(messages) == before

    def test_recorded_faults_are_all_named_and_repaired(self) -> None:
        """Each of the 60 malformed recordings is refused for what it is known for."""
        recordings = list(load_recordings(recordings_file("malformed.jsonl")))
        assert len(recordings) == 60
        for recording in recordings:
            with pytest.raises(MalformedConversationError) as caught:
                from_openai(recording.messages)
            for anomaly, count in recording.anomalies.items():
                told = [fault for fault in caught.value.faults if FAULTS[anomaly] in fault]
                if recording.messages:
                    assert len(told) == count, (recording.id, anomaly)
            repaired = repair_openai(recording.messages)
            assert len(repaired.repairs) == len(caught.value.faults)
            assert_repaired(repaired.drafts)
            assert len(repaired.drafts) >= len(recording.messages)


def assert_repaired(drafts: tuple[Draft, ...]) -> None:
    """Nothing is left to pair, and an import would find nothing but what cannot be repaired."""
    assert pair_safe(drafts) == list(drafts)
    left = repair_openai(to_openai(drafts))
    assert to_openai(left.drafts) == to_openai(drafts)
    assert all("aborted run" in one or "empty" in one for one in left.repairs)
