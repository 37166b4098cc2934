"""Conversations as OpenAI chat lines: there and back, what is lost is counted, faults are named."""

import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import MalformedConversationError
from shared.message import (
    DataPart,
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
)
from shared.openai_chat import to_openai
from shared.testing.conversation.value import imported, texts
from shared.transfer.chat_lines import read_line, write_line
from shared.transfer.importing import import_chat
from tests.unit.shared.recordings import recordings_file
from tests.unit.shared.transfer.stage import Killed, fill, new_store

CALL = ToolCall(id="c1", name="look_up", arguments="{}")
ASKS = Message(id="1", role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(CALL,))
FOUND = Message(**dict(tool_result_draft(CALL, "found")), id="2")
SAID = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


def said(role: Role, content: Any, **more: Any) -> Message:
    return Message(id="x", role=role, content=content, **more)


def file_of(*lines: object) -> io.BytesIO:
    return io.BytesIO(
        b"".join(
            (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
            for line in lines
        )
    )


def recorded(name: str) -> Iterator[tuple[int, bytes]]:
    with recordings_file(name).open("rb") as lines:
        yield from enumerate(lines, start=1)


def faults_of(number: int, line: bytes, *, repair: bool = False) -> tuple[str, ...]:
    """Why a line is refused; nothing where it is not."""
    try:
        read_line(number, line, repair=repair)
    except MalformedConversationError as error:
        return error.faults
    return ()


@pytest.mark.parametrize("name", ["conversations.jsonl", "parallel_calls.jsonl"])
def test_recordings_come_back_equal(name: str) -> None:
    """Each line, imported and exported again: the same messages, and nothing lost."""
    for number, line in recorded(name):
        read = read_line(number, line)
        written = write_line(None, read.messages)
        assert json.loads(written.text) == {"messages": json.loads(line)["messages"]}
        assert not written.lost
        assert written.repaired == 0


def test_malformed_recordings_are_refused_with_their_lines_and_can_be_repaired() -> None:
    """Each fault says where it is; what was mended is in order."""
    refused = repaired = 0
    for number, line in recorded("malformed.jsonl"):
        faults = faults_of(number, line)
        refused += bool(faults)
        assert all(fault.startswith(f"line {number}: ") for fault in faults)
        if faults_of(number, line, repair=True):
            assert "empty conversation" in faults[0]
            continue
        read = read_line(number, line, repair=True)
        assert read.repairs
        repaired += 1
        again = json.loads(write_line(None, read.messages).text)["messages"]
        assert to_openai(read.messages) == again
    assert refused > 40
    assert repaired > 50


def test_what_the_form_has_no_place_for_is_counted() -> None:
    """By kind, and how many messages had it."""
    usage, engine = Usage(input_tokens=1), EngineData(name="e", version=1, data=None)
    messages = [
        said(Role.USER, (TextPart(text="a"), DataPart(value={"b": 1})), metadata={"mine": 1}),
        said(Role.ASSISTANT, (ThinkingPart(text="t"), TextPart(text="b")), usage=usage),
        said(Role.ASSISTANT, "c", usage=usage, engine=engine),
        said(Role.SYSTEM, "so far", kind=MessageKind.SUMMARY, version=2),
        ASKS,
        FOUND.model_copy(update={"outcome": ToolOutcome.FAILED}),
        said(Role.ASSISTANT, "broke", kind=MessageKind.ERROR),
    ]
    line = write_line("web:ada", messages)
    assert dict(line.lost) == {
        "structure": 1,
        "metadata": 1,
        "thinking": 1,
        "usage": 2,
        "engine": 1,
        "summaries": 1,
        "outcomes": 1,
        "errors": 1,
    }
    assert line.messages == 5
    body = json.loads(line.text)
    assert body["conversation_id"] == "web:ada"
    assert "conversation_id" not in json.loads(write_line(None, messages).text)


def test_a_line_is_one_line_whatever_it_holds() -> None:
    """For readers, too, that break lines at every character that Unicode allows."""
    line = write_line("web:ada", [said(Role.USER, "a\n\r\x85\u2028\u2029\x0b\ud800 “é”")])
    assert line.text.isascii()
    assert len(line.text.splitlines()) == 1


def test_calls_without_results_get_one_and_it_is_said() -> None:
    """What is exported can be imported, and a model would accept it."""
    line = write_line(None, [said(Role.USER, "a"), ASKS, said(Role.USER, "b"), FOUND])
    assert line.repaired == 2
    assert [each["role"] for each in json.loads(line.text)["messages"]] == [
        "user",
        "assistant",
        "tool",
        "user",
    ]
    read_line(1, line.text.encode())


texts_of_any_kind = st.text(max_size=12)
plain = st.builds(
    Message,
    id=st.just("x"),
    role=st.sampled_from([Role.USER, Role.ASSISTANT, Role.SYSTEM]),
    content=texts_of_any_kind
    | st.lists(
        st.builds(TextPart, text=texts_of_any_kind)
        | st.builds(ThinkingPart, text=texts_of_any_kind)
        | st.builds(DataPart, value=st.integers() | texts_of_any_kind)
        | st.builds(MediaPart, media_type=st.just("image/png"), data=st.just("eA==")),
        max_size=3,
    ).map(tuple),
    usage=st.none() | st.just(Usage(requests=1)),
    kind=st.sampled_from([MessageKind.MESSAGE, MessageKind.ERROR]),
)


@settings(max_examples=200)
@given(st.lists(plain, min_size=1, max_size=5))
def test_what_is_not_counted_as_lost_comes_back(messages: list[Message]) -> None:
    """A message of which nothing is said to be lost is the same after a round trip."""
    kept = [each for each in messages if each.kind is not MessageKind.ERROR]
    if not kept:
        return
    read = read_line(1, write_line(None, messages).text.encode())
    assert len(read.messages) == len(kept)
    for before, after in zip(kept, read.messages, strict=True):
        if not write_line(None, [before]).lost:
            assert _said(after) == _said(before)


def _said(message: Message) -> Any:
    return message.model_dump(mode="json", include={"role", "kind", "content"})


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", 'no object with an array "messages"'),
        (b'{"messages": {}}', 'no object with an array "messages"'),
        (b'{"messages": []}', "empty conversation"),
        (b'{"messages": [{"role": "judge", "content": ""}]}', "message 0: wrong role"),
        (b'{"conversation_id": "../x", "messages": [{"role":"user","content":"a"}]}', "may only"),
        (b'{"conversation_id": 7, "messages": [{"role":"user","content":"a"}]}', "string"),
    ],
)
async def test_one_bad_line_and_nothing_is_imported(line: bytes, fault: str) -> None:
    """The error names every bad line and what is wrong with it."""
    store = new_store()
    file = file_of({"messages": SAID}, b"", line, {"messages": [*SAID, *SAID]}, b"{{")
    with pytest.raises(MalformedConversationError, match="Nothing was imported") as caught:
        await import_chat(store, file)
    faults = caught.value.faults
    assert any(each.startswith("line 3: ") and fault in each for each in faults)
    assert faults[-1].startswith("line 5: ")
    assert not any(each.startswith(("line 1:", "line 2:", "line 4:")) for each in faults)
    assert [each async for each in store.conversation_ids()] == []


async def test_a_file_is_imported_once_however_often() -> None:
    """Also when a conversation went on since; and one that stands there twice, once."""
    store = new_store()
    lines = [{"conversation_id": "web:ada", "messages": SAID}, {"messages": SAID[:1]}]
    report = await import_chat(store, file_of(*lines, lines[1]))
    assert (report.conversations, report.messages, report.present) == (2, 3, 1)
    await store.append("web:ada", [imported("more")])
    again = await import_chat(store, file_of(*lines))
    assert (again.conversations, again.present) == (0, 2)
    assert texts(await store.list_messages("web:ada")) == ["hi", "ho", "more"]


async def test_a_conversation_that_is_something_else_is_a_fault() -> None:
    """In the store, or in another line."""
    store = new_store()
    name = await fill(store, 3)
    with pytest.raises(MalformedConversationError, match="holds something else"):
        await import_chat(store, file_of({"conversation_id": name, "messages": SAID}))
    twice = [{"conversation_id": "web:a", "messages": SAID[:count]} for count in (1, 2)]
    with pytest.raises(MalformedConversationError, match=r"line 2: .* is in line 1"):
        await import_chat(store, file_of(*twice))
    assert [each async for each in store.conversation_ids()] == [name]


async def test_checking_stores_nothing() -> None:
    """And counts what would be."""
    store = new_store()
    report = await import_chat(store, file_of({"messages": SAID}), check_only=True)
    assert report.conversations == 1
    assert [each async for each in store.conversation_ids()] == []


async def test_who_is_killed_while_importing_leaves_whole_conversations() -> None:
    """Started again, the rest comes; each once."""
    store = new_store()
    lines = [{"messages": [*SAID * count]} for count in range(1, 6)]

    def die(number: int) -> None:
        if number == 3:
            raise Killed

    with pytest.raises(Killed):
        await import_chat(store, file_of(*lines), on_line=die)
    lengths = [await store.count(each) async for each in store.conversation_ids()]
    assert sorted(lengths) == [2, 4, 6]
    report = await import_chat(store, file_of(*lines))
    assert (report.conversations, report.present) == (2, 3)


async def test_recordings_are_imported_as_they_are() -> None:
    """A file whose lines have other fields besides."""
    lines = [line for _, line in islice(recorded("conversations.jsonl"), 20)]
    report = await import_chat(new_store(), io.BytesIO(b"".join(lines)))
    assert report.conversations == 20
    assert all("kept as it is" in each for each in report.repairs)
