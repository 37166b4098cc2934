"""Conversations to be moved: those that were recorded, and random ones with everything in them."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from hypothesis import strategies as st

from shared.conversation.protocol import ConversationStore, Writer
from shared.identifier import new_run_id, partition_of
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
)
from shared.openai_chat import repair_openai

FILES: Final = ("conversations.jsonl", "parallel_calls.jsonl")

Runs = list[list[Draft]]
"""The drafts of each run of a conversation."""


def recorded_conversations(folder: Path) -> Iterator[tuple[str, Runs]]:
    """Each recording as a conversation: a run begins with each of its user's messages."""
    for name in FILES:
        with (folder / name).open("rb") as lines:
            for number, line in enumerate(lines):
                drafts = repair_openai(json.loads(line)["messages"]).drafts
                yield f"{name.partition('.')[0]}:{number}", _runs(drafts)


def _runs(drafts: Sequence[Draft]) -> Runs:
    runs: Runs = [[]]
    for place, draft in enumerate(drafts):
        if draft.role is Role.USER and runs[-1]:
            runs.append([])
        usage = Usage(input_tokens=place + 1, requests=1) if draft.role is Role.ASSISTANT else None
        runs[-1].append(draft.model_copy(update={"usage": usage}))
    return runs


async def write(store: ConversationStore, name: str, runs: Runs) -> None:
    """Store a conversation as its runs would have: under tokens that grow."""
    for token, drafts in enumerate(runs, start=1):
        run_id = new_run_id(partition_of(name))
        messages = [
            Message.from_draft(draft, run_id=run_id, position=position)
            for position, draft in enumerate(drafts)
        ]
        await store.append(name, messages, writer=Writer(run_id, token))


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
parts = (
    st.builds(TextPart, text=text)
    | st.builds(ThinkingPart, text=text)
    | st.builds(DataPart, value=json_values)
    | st.builds(MediaPart, media_type=st.just("image/png"), url=text, name=text)
)
calls = st.builds(ToolCall, id=text, name=text, arguments=text)
usages = st.none() | st.builds(
    Usage, input_tokens=st.integers(0, 10**9), requests=st.integers(0, 3)
)
engines = st.none() | st.builds(EngineData, name=text, version=st.integers(0, 9), data=json_values)
said = st.builds(
    Draft,
    role=st.sampled_from([Role.USER, Role.SYSTEM, Role.ASSISTANT]),
    kind=st.sampled_from([MessageKind.MESSAGE, MessageKind.ERROR, MessageKind.SUMMARY]),
    content=st.none() | text | st.lists(parts, max_size=3).map(tuple),
    usage=usages,
    metadata=st.dictionaries(text, json_values, max_size=2),
    engine=engines,
)
asked = st.builds(
    Draft,
    role=st.just(Role.ASSISTANT),
    kind=st.just(MessageKind.TOOL_CALL),
    tool_calls=st.lists(calls, min_size=1, max_size=3).map(tuple),
    engine=engines,
)
found = st.builds(tool_result_draft, calls, text, outcome=st.sampled_from(ToolOutcome))
random_runs: st.SearchStrategy[Runs] = st.lists(
    st.lists(said | asked | found, min_size=1, max_size=6), min_size=1, max_size=4
)
times = st.integers(0, 10**10).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)) | st.just(
    datetime(2026, 1, 1, 0, 0, 0, 1, UTC)
)
random_imports: st.SearchStrategy[list[Message]] = st.lists(
    st.builds(
        lambda draft, at: Message(**dict(draft), id=uuid4().hex, created_at=at, version=2),
        said | asked | found,
        times,
    ),
    max_size=4,
)
