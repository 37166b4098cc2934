"""Decoding whatever comes from a store: a valid value or the one named error, nothing else."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import decode, decode_message, encode
from shared.errors import CorruptEntryError, InvalidCursorError, MalformedConversationError
from shared.identifier import new_run_id
from shared.ledger.redis_record import read_event, read_run, read_wake_up
from shared.message import (
    DataPart,
    Draft,
    EngineData,
    MediaPart,
    Message,
    MessageKind,
    Role,
    TextPart,
    ToolCall,
    Usage,
)
from shared.openai_chat import from_openai, repair_openai, to_openai
from shared.redis_client import lower_bound
from shared.run import AgentInfo, Ending, NewRun, RunError, RunStatus, WorkerInfo
from tests.garbage import GARBAGE, damaged
from tests.unit.shared.recordings import recordings_file

RUN_ID = new_run_id(3)
MESSAGE = Message.from_draft(
    Draft(
        role=Role.ASSISTANT,
        kind=MessageKind.TOOL_CALL,
        content=(
            TextPart(text="h\xe9"),
            MediaPart(media_type="image/png", url="u"),
            DataPart(value={"a": [1, 2.5, None]}),
        ),
        tool_calls=(ToolCall(id="1", name="look", arguments='{"at": 1}'),),
        usage=Usage(input_tokens=7),
        metadata={"k": "v"},
        engine=EngineData(name="pydantic-ai", version=1, data={"ids": ["1"]}),
    ),
    run_id=RUN_ID,
    position=1,
)
NEW = NewRun(id=RUN_ID, agent="clerk", input=(TextPart(text="hi"),), metadata={"a": [1, "\xe9"]})
ENDING = Ending(
    status=RunStatus.FAILED, output={"a": 1}, error=RunError(code="c", message="m"), rounds=2
)
WORKER = WorkerInfo(
    id="w-1", hostname="h", pid=7, version="1", concurrency=3, started_at=datetime.now(UTC),
    agents=(AgentInfo(name="clerk", queue="agents"),),
)  # fmt: skip
RECORD = {
    "new": encode(NEW), "agent": "clerk", "history": NEW.history_id, "conversation": "",
    "priority": "5", "created": "1763661731001", "started": "1763661731002",
    "finished": "1763661731003", "status": "failed", "worker": "w-1", "token": "1",
    "attempts": "1", "crashes": "0", "cancel": "1", "rollback": "0", "ending": encode(ENDING),
    "version": "1",
}  # fmt: skip
DELTA = {"type": "delta", "text": "h\xe9", "position": "1", "attempt": "1"}
STATUS = {
    "type": "status", "status": "failed", "worker": "w-1", "attempt": "1", "rolled_back": "0",
}  # fmt: skip


def as_read(value: bytes) -> str:
    """Bytes as the connection to Redis hands them out."""
    return value.decode(errors="surrogateescape")


def is_harmless(read: Callable[[], Any]) -> None:
    """Reading gives a value that can be written again, or raises the named error."""
    value: Any = None
    try:
        value = read()
    except CorruptEntryError as error:
        value = str(error)
    if isinstance(value, str):
        assert len(value) < 500, "nobody wants to read that in a log"
    if hasattr(value, "model_dump_json"):
        value.model_dump_json()


class TestStoredJson:
    @given(stored=damaged(encode(MESSAGE).encode()))
    def test_a_damaged_message(self, stored: bytes) -> None:
        """As bytes, and as text that may hold what was no UTF-8."""
        is_harmless(lambda: decode_message(stored, cursor="1-0"))
        is_harmless(lambda: decode_message(as_read(stored), cursor="1-0"))

    @pytest.mark.parametrize("value", [NEW, ENDING, WORKER], ids=lambda value: type(value).__name__)
    @given(data=st.data())
    def test_another_damaged_value(self, value: Any, data: st.DataObject) -> None:
        """Runs, endings and announcements are read in the same way."""
        stored = data.draw(damaged(encode(value).encode()))
        is_harmless(lambda: decode(type(value), as_read(stored), where="it"))

    @pytest.mark.parametrize("stored", GARBAGE, ids=range(len(GARBAGE)))
    def test_garbage(self, stored: bytes) -> None:
        """None of it is a message, and none of it breaks the reader."""
        for kind in (Message, NewRun, Ending, WorkerInfo):
            with pytest.raises(CorruptEntryError):
                decode(kind, as_read(stored), where="it")
        with pytest.raises(CorruptEntryError):
            decode_message(stored, cursor="1-0")


anything = st.sampled_from(GARBAGE) | st.binary(max_size=20) | st.integers().map(
    lambda number: str(number).encode()
)  # fmt: skip


class TestRedisForms:
    @given(field=st.sampled_from(sorted(RECORD)), data=st.data())
    def test_a_record_with_a_damaged_field(self, field: str, data: st.DataObject) -> None:
        """Any field, by anything, or gone."""
        is_json = field in {"new", "ending"}
        strategy = damaged(RECORD[field].encode()) if is_json else anything
        value = data.draw(st.none() | strategy)
        record = {**RECORD, field: as_read(value or b"")}
        if value is None:
            del record[field]
        is_harmless(lambda: read_run(RUN_ID, record))
        is_harmless(lambda: read_run(RUN_ID, [part for item in record.items() for part in item]))

    def test_the_record_itself_is_read(self) -> None:
        """So what the others do to it is what makes it unreadable."""
        run = read_run(RUN_ID, RECORD)
        assert (run.input, run.output) == (NEW.input, ENDING.output)

    @given(answer=st.lists(st.none() | anything.map(as_read), max_size=4))
    def test_answers_of_scripts(self, answer: list[Any]) -> None:
        """A flat record, a wake-up."""
        is_harmless(lambda: read_run(RUN_ID, answer))
        is_harmless(lambda: read_wake_up(answer))

    @given(
        event=st.sampled_from([DELTA, STATUS]),
        field=st.sampled_from(["type", "text", "position", "attempt", "status", "worker"]),
        value=anything,
        cursor=st.sampled_from(["1-0", "9" * 20 + "-0", "0-1"]),
    )
    def test_an_event_with_a_damaged_field(
        self, event: dict[str, str], field: str, value: bytes, cursor: str
    ) -> None:
        """Also one whose id tells an impossible time."""
        is_harmless(lambda: read_event(RUN_ID, cursor, {**event, field: as_read(value)}))


class TestWhatCallersSend:
    @given(cursor=st.text() | st.binary() | st.none() | st.from_regex(r"[0-9]{1,25}-[0-9]{1,25}"))
    def test_cursors(self, cursor: Any) -> None:
        """A range of Redis, or a named error."""
        try:
            bound = lower_bound(cursor)
        except InvalidCursorError:
            return
        assert cursor is None or bound == f"({cursor}"

    @given(data=st.data())
    def test_conversations_to_import(self, data: st.DataObject) -> None:
        """Translated, repaired, or refused with the list of their faults."""
        said = [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "b"},
        ]
        stored = data.draw(damaged(json.dumps(said).encode()))
        try:
            messages = json.loads(stored)
        except (ValueError, RecursionError):
            return
        if isinstance(messages, list):
            self._is_survived(messages)

    def test_conversations_that_are_known_to_be_malformed(self) -> None:
        """Those of the recordings."""
        for line in recordings_file("malformed.jsonl").read_text().splitlines():
            self._is_survived(json.loads(line)["messages"])

    def _is_survived(self, messages: list[Any]) -> None:
        try:
            drafts = from_openai(messages)
        except MalformedConversationError:
            drafts = list(repair_openai(messages).drafts)
        to_openai(drafts)
        for draft in drafts:
            assert decode(Draft, encode(draft), where="it").role is draft.role
