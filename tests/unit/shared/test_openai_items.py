"""Messages as items of the Responses API: taken by the provider, and back without a difference."""

from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import encode, stored_form
from shared.conversation.openai_items import LAYER, part, reference_of, referring, restored
from shared.errors import CorruptEntryError
from shared.message import (
    DataPart,
    EngineData,
    MediaPart,
    Message,
    MessageKind,
    Role,
    Sealed,
    TextPart,
    ThinkingPart,
    ToolCall,
    ToolOutcome,
    Usage,
)
from shared.openai_chat import repair_openai
from shared.version import SEALED_VERSION
from tests.model_server.recording import load_recordings
from tests.openai_server.checking import check_items
from tests.openai_server.keeping import Keeping
from tests.unit.shared.recordings import recordings_file

CALL = ToolCall(id="call_1", name="look", arguments='{"a": 1}')

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MEDIA = st.builds(
    MediaPart,
    media_type=st.sampled_from(["image/png", "image/jpeg", "application/pdf", "audio/mpeg"]),
    data=st.just("aGk="),
) | st.builds(MediaPart, media_type=st.just("image/*"), url=st.just("https://example.org/a.png"))
PARTS = (
    st.builds(TextPart, text=st.text())
    | st.builds(ThinkingPart, text=st.text())
    | st.builds(DataPart, value=JSON)
    | MEDIA
)
MESSAGES = st.builds(
    Message,
    id=st.text(min_size=1),
    run_id=st.none() | st.text(min_size=1),
    position=st.integers(0, 9),
    role=st.sampled_from(Role),
    kind=st.sampled_from([kind for kind in MessageKind if kind is not MessageKind.SUMMARY]),
    content=st.none() | st.text() | st.lists(PARTS, max_size=4).map(tuple),
    tool_calls=st.lists(
        st.builds(ToolCall, id=st.text(), name=st.text(), arguments=st.text()), max_size=3
    ).map(tuple),
    tool_call_id=st.none() | st.text(),
    metadata=st.dictionaries(st.text(), JSON, max_size=2),
    created_at=st.datetimes(timezones=st.just(UTC)),
    usage=st.none() | st.builds(Usage),
)


def there_and_back(message: Message, keeping: Keeping | None = None) -> tuple[Message, Message]:
    """The entry for a message, and the message as it comes back; the provider checks every item."""
    keeping = keeping or Keeping()
    place = keeping.create({}).id
    parting = part(message)
    if not parting.items:
        return message, message
    made = keeping.add(place, [check_items([item])[0] for item in parting.items])
    entry = stored_form(referring(parting, place, made))
    reference = reference_of(entry)
    assert reference is not None
    back = restored(entry.at("1-0"), reference, {item["id"]: item for item in made})
    assert back.cursor == "1-0"
    return entry, back.model_copy(update={"cursor": None})


@given(MESSAGES)
def test_any_message_comes_back_as_it_was(message: Message) -> None:
    """Whatever it holds, and the provider takes each of its items."""
    assert there_and_back(message)[1] == stored_form(message)


class Careless(Keeping):
    """A provider that does not give back what it got."""

    def add(self, place: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        changed = []
        for item in super().add(place, items):
            own: dict[str, Any] = {}
            if item["type"] == "message":
                own["content"] = item["content"][:1]
            if "arguments" in item:
                own["arguments"] = item["arguments"].strip() or None
            if isinstance(item.get("output"), str):
                own["output"] = item["output"].replace("\x00", "").title()
            changed.append(item | own)
        return changed


@given(MESSAGES)
def test_what_the_provider_changes_is_kept_here(message: Message) -> None:
    """It may trim, drop or rewrite: the message comes back as it was given."""
    assert there_and_back(message, Careless())[1] == stored_form(message)


@pytest.mark.parametrize("name", ["conversations.jsonl", "parallel_calls.jsonl"])
def test_recorded_conversations_come_back(name: str) -> None:
    """All of them, with their texts at the provider and nowhere else."""
    number = 0
    for recording in load_recordings(recordings_file(name)):
        for draft in repair_openai(recording.messages).drafts:
            number += 1
            message = Message.from_draft(draft, run_id="run", position=number)
            entry, back = there_and_back(message)
            assert back == stored_form(message)
            for call in message.tool_calls:
                assert len(call.arguments) < 20 or call.arguments not in encode(entry)
    assert number > 100


def test_a_conversation_in_the_providers_form() -> None:
    """What a model at the provider reads: roles, texts, calls and results, in its own fields."""
    given = [
        Message(id="0", role=Role.USER, content="hi"),
        Message(
            id="1",
            role=Role.ASSISTANT,
            kind=MessageKind.TOOL_CALL,
            content=(ThinkingPart(text="hm"), TextPart(text="let me see")),
            tool_calls=(CALL, CALL.model_copy(update={"id": "x" * 70, "name": "a.b"})),
        ),
        Message(id="2", role=Role.TOOL, content="seen", tool_call_id="call_1"),
        Message(id="3", role=Role.TOOL, content=(DataPart(value=[1]),), tool_call_id="x" * 70),
    ]
    items = [item for message in given for item in part(message).items]
    long_id = items[3]["call_id"]
    assert items == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "let me see"}],
        },
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "look",
            "arguments": '{"a": 1}',
        },
        {"type": "function_call", "call_id": long_id, "name": "a_b", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
        {
            "type": "function_call_output",
            "call_id": long_id,
            "output": [{"type": "input_text", "text": "[1]"}],
        },
    ]


@pytest.mark.parametrize(
    "message",
    [
        Message(id="0", role=Role.ASSISTANT, kind=MessageKind.ERROR, content="it failed"),
        Message(id="0", role=Role.USER, kind=MessageKind.SUMMARY, content="so far", version=2),
        Message(id="0", role=Role.USER, sealed=Sealed(layers=("zstd",), data="aGk=")),
        Message(id="0", role=Role.ASSISTANT, content=""),
        Message(id="0", role=Role.ASSISTANT, content=(ThinkingPart(text="hm"),)),
        Message(id="0", role=Role.USER, content="x" * 10_485_761),
    ],
    ids=["error", "summary", "sealed", "empty", "thinking", "too long"],
)
def test_what_does_not_belong_at_the_provider_stays(message: Message) -> None:
    """Notes for people, summaries, what is sealed, what is empty or larger than it takes."""
    assert part(message).items == []


def test_the_entry_holds_what_stores_go_by_and_no_content() -> None:
    """Id, run, position, role, kind and time are readable; text is not there, nor in base64."""
    message = Message(
        id="r.3",
        run_id="r",
        position=3,
        role=Role.TOOL,
        kind=MessageKind.TOOL_RESULT,
        content="the secret is seven",
        tool_call_id="1",
        outcome=ToolOutcome.SUCCESS,
        engine=EngineData(name="e", version=1, data={"x": 1}),
    )
    entry, _ = there_and_back(message)
    assert entry.sealed is not None
    assert (entry.content, entry.engine, entry.sealed.layers) == (None, None, (LAYER,))
    assert (entry.id, entry.run_id, entry.position) == ("r.3", "r", 3)
    assert (entry.role, entry.kind, entry.created_at) == (
        message.role,
        message.kind,
        message.created_at,
    )
    assert entry.version == SEALED_VERSION
    reference = reference_of(entry)
    assert reference is not None
    assert "seven" not in reference.model_dump_json()


def test_what_is_gone_or_damaged_is_named() -> None:
    """A missing item and an entry that was tampered with are one named error."""
    message = Message(id="0", role=Role.USER, content="hi")
    entry, _ = there_and_back(message)
    reference = reference_of(entry)
    assert reference is not None
    with pytest.raises(CorruptEntryError):
        restored(entry, reference, {})
    [item_id] = reference.items
    with pytest.raises(CorruptEntryError):
        restored(entry, reference, {item_id: {"type": "message", "content": []}})
    for data in ("?", "aGk=", ""):
        damaged = entry.model_copy(update={"sealed": Sealed(layers=(LAYER,), data=data)})
        with pytest.raises(CorruptEntryError):
            reference_of(damaged)
