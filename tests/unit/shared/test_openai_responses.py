"""Items of the Responses API as messages: readable here, and back without a difference."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from shared.codec import stored_form
from shared.errors import UnstorableError
from shared.message import (
    DataPart,
    Draft,
    MediaPart,
    Message,
    MessageKind,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    tool_result_draft,
)
from shared.openai_chat import repair_openai
from shared.openai_responses import from_items, to_items, without_last_item
from shared.window import pair_safe
from tests.model_server.recording import load_recordings
from tests.openai_server.checking import check_items
from tests.unit.shared.recordings import recordings_file

REASONING: dict[str, Any] = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "thinking"}],
    "encrypted_content": "xyz",
}
SAID: dict[str, Any] = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "let me see", "annotations": [], "logprobs": []}],
}


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(call_id: str = "c1", name: str = "look", **fields: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": "{}"} | fields


def output(call_id: str = "c1", value: Any = "seen", **fields: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value} | fields


HISTORIES: dict[str, list[dict[str, Any]]] = {
    "texts": [user(), {"role": "assistant", "content": "hello"}, user("")],
    "typed texts": [user([{"type": "input_text", "text": "a"}]), SAID],
    "an answer of all kinds": [user(), REASONING, SAID, call(id="fc_1"), call("c2"), output()],
    "two answers": [SAID, SAID, call(), output()],
    "text behind a call": [call(), SAID, call("c2"), SAID, output(), output("c2")],
    "only reasoning": [REASONING],
    "one id for two calls": [call(), call(), output(), output()],
    "results": [
        call(),
        output(value=[{"type": "input_text", "text": "x"}]),
        output("?", value=[{"type": "input_image", "image_url": "data:image/png;base64,aGk="}]),
        output(value={"odd": 1}),
    ],
    "media": [
        user(
            [
                {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,aGk=", "x": 1},
                {"type": "input_file", "file_id": "file_1"},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            ]
        )
    ],
    "roles": [
        {"role": "developer", "content": "be kind"},
        {"role": "system", "content": "be brief", "type": "message"},
        {"role": "critic", "content": "?"},
        {"role": "tool", "content": "?"},
    ],
    "other types": [
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "computer_call_output", "call_id": "c", "output": {"type": "screenshot"}},
        {"type": "item_reference", "id": "msg_2"},
        {"type": "function_call", "call_id": None, "name": "x"},
        {},
    ],
    "nothing": [],
    "empty contents": [user([]), {"role": "assistant", "content": []}, {"role": "user"}],
}


@pytest.mark.parametrize("name", HISTORIES)
def test_items_come_back_as_they_were(name: str) -> None:
    """Through what is stored, all fields of them."""
    items = HISTORIES[name]
    assert to_items([stored_form(each) for each in from_items(items)]) == items


TEXT = st.text(max_size=5)
ITEMS = st.one_of(
    st.builds(user, TEXT | st.lists(st.builds(lambda t: {"type": "input_text", "text": t}, TEXT))),
    st.builds(call, TEXT, TEXT, arguments=TEXT),
    st.builds(output, TEXT, TEXT),
    st.just(SAID),
    st.just(REASONING),
    st.dictionaries(
        st.sampled_from(["type", "role", "content", "call_id", "name", "output", "x"]),
        st.none() | TEXT | st.sampled_from(["message", "user", "reasoning"]) | st.lists(TEXT),
    ),
)


@given(st.lists(ITEMS, max_size=6))
def test_any_items_come_back_as_they_were(items: list[dict[str, Any]]) -> None:
    """Whatever somebody adds, as long as it is JSON."""
    assert to_items([stored_form(each) for each in from_items(items)]) == items


@given(st.lists(ITEMS, min_size=1, max_size=6))
def test_the_last_item_can_be_taken_away(items: list[dict[str, Any]]) -> None:
    """What is left of the last message is the items before it."""
    *before, last = from_items(items)
    rest = without_last_item(last)
    left = [*before, rest] if rest is not None else before
    assert to_items([stored_form(each) for each in left]) == items[:-1]


def test_an_answer_is_one_message() -> None:
    """Reasoning, text and calls are where people and models look for them, paired with results."""
    items = [user(), REASONING, SAID, call(), call("c2", "find"), output("c2"), output()]
    asked, answer, first, second = from_items(items)
    assert (asked.role, asked.text) == (Role.USER, "hi")
    assert (answer.role, answer.kind) == (Role.ASSISTANT, MessageKind.TOOL_CALL)
    assert answer.content == (ThinkingPart(text="thinking"), TextPart(text="let me see"))
    assert [each.name for each in answer.tool_calls] == ["look", "find"]
    assert (first.role, first.tool_name, first.text) == (Role.TOOL, "find", "seen")
    assert second.tool_name == "look"
    assert pair_safe([asked, answer, first, second]) == [asked, answer, first, second]


def test_what_others_wrote_is_readable_as_items() -> None:
    """Texts, calls and results of a run, with ids that are unique, as the API takes them."""
    looked = ToolCall(id="c", name="look", arguments="{}")
    run = [
        Draft(role=Role.SYSTEM, content="be kind"),
        Draft(
            role=Role.USER,
            content=(TextPart(text="hi"), MediaPart(media_type="image/png", data="aGk=")),
        ),
        Draft(
            role=Role.ASSISTANT,
            content=(ThinkingPart(text="hm"), TextPart(text="a"), TextPart(text="b")),
            tool_calls=(looked, looked),
        ),
        tool_result_draft(looked, "one"),
        tool_result_draft(looked, (DataPart(value={"n": 2}),)),
        Draft(role=Role.ASSISTANT, tool_calls=(looked,)),
        tool_result_draft(looked, (TextPart(text="x"), DataPart(value=[1]))),
        Draft(role=Role.ASSISTANT, kind=MessageKind.ERROR, content="it failed"),
        Draft(role=Role.ASSISTANT, content="done"),
    ]
    items = to_items(run)
    assert items == [
        {"role": "system", "content": "be kind"},
        user(
            [
                {"type": "input_text", "text": "hi"},
                {
                    "type": "input_image",
                    "image_url": "data:image/png;base64,aGk=",
                    "detail": "auto",
                },
            ]
        ),
        {"role": "assistant", "content": "ab"},
        call("c"),
        call("c-2"),
        output("c", "one"),
        output("c-2", '{"n": 2}'),
        call("c-3"),
        output("c-3", "x[1]"),
        {"role": "assistant", "content": "done"},
    ]
    check_items(items)


@pytest.mark.parametrize("name", ["conversations.jsonl", "parallel_calls.jsonl"])
def test_recorded_conversations_are_taken_as_items(name: str) -> None:
    """By a strict API, with each result behind a call of its own id."""
    for recording in load_recordings(recordings_file(name)):
        items = to_items(repair_openai(recording.messages).drafts)
        for start in range(0, len(items), 20):
            check_items(items[start : start + 20])
        calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
        results = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
        assert len(set(calls)) == len(calls)
        assert sorted(results) == sorted(calls)


@pytest.mark.parametrize("item", ["text", None, {"content": object()}, {"content": {1, 2}}, [1]])
def test_what_is_no_item_is_refused(item: object) -> None:
    """It says what an item is."""
    with pytest.raises(UnstorableError):
        from_items([user(), item])


def test_structured_values_of_others_are_no_items() -> None:
    """A user may send an object that has a type; it is content and not an item of that type."""
    value: dict[str, JsonValue] = {"type": "order", "id": 1}
    message = Message(id="0", role=Role.USER, content=(DataPart(value=value),))
    [item] = to_items([message])
    assert item["role"] == "user"
