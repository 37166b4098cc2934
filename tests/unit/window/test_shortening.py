"""What a model is shown of long results, in histories and in the run itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_ai.messages import ModelRequest, ToolReturnPart

from agent_worker.cutting import NOT_KEPT, NOT_SHOWN, cut
from agent_worker.engine.pydantic_ai.history import message_drafts, model_messages
from agent_worker.engine.pydantic_ai.shortening import with_short_results
from agent_worker.window.shortening import shortened
from shared.message import (
    DataPart,
    Draft,
    MediaPart,
    Message,
    Role,
    TextPart,
    ToolCall,
    tool_result_draft,
    user_draft,
)
from tests.unit.window.room import number

CALL = ToolCall(id="c", name="look", arguments="{}")
LIMIT = 1_000

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
)


def result(content: Any) -> Message:
    """A tool's result as it is stored."""
    [message] = number([tool_result_draft(CALL, content)], "run")
    return message


@given(text=st.text(min_size=1, max_size=3_000) | st.builds("ä語".__mul__, st.integers(1, 2_000)))
def test_a_text_is_cut_within_its_limit_and_between_characters(text: str) -> None:
    """The beginning and the end are there, and what is missing is counted."""
    for marker in (NOT_KEPT, NOT_SHOWN):
        short = cut(text, LIMIT, marker)
        assert len(short.encode()) <= LIMIT
        if short != text:
            assert len(text.encode()) > LIMIT
            head, tail = short.split("\n\n[")[0], short.split("]\n\n")[-1]
            assert text.startswith(head)
            assert text.endswith(tail)
            assert head
            assert tail


def test_a_long_structured_result_becomes_the_text_of_its_json() -> None:
    """And what is short stays what it was."""
    long = shortened(result((DataPart(value=["x" * 500] * 9), TextPart(text="and"))), LIMIT)
    assert isinstance(long.content, tuple)
    first, second = long.content
    assert isinstance(first, TextPart)
    assert first.text.startswith('["xxx')
    assert len(first.text.encode()) <= LIMIT
    assert second == TextPart(text="and")
    short = result((DataPart(value={"a": 1}),))
    assert shortened(short, LIMIT) is short


@pytest.mark.parametrize(
    "message",
    [
        result((MediaPart(media_type="image/png", data="x" * 5_000),)),
        *number([user_draft("x" * 5_000), Draft(role=Role.ASSISTANT, content="x" * 5_000)], "run"),
    ],
    ids=["a picture", "a user", "an assistant"],
)
def test_nothing_else_is_shortened(message: Message) -> None:
    """What people and models said, and half a picture."""
    assert shortened(message, LIMIT) is message


def test_without_a_limit_everything_is_shown() -> None:
    """The default."""
    whole = result("x" * 1_000_000)
    assert shortened(whole, None) is whole


@given(value=st.lists(values, min_size=1, max_size=40) | st.text(max_size=4_000))
def test_a_result_looks_the_same_in_its_run_and_afterwards(value: Any) -> None:
    """In its own run the request is shortened, later the history: the model reads equal words, so
    that a provider's cache of the prompt holds."""
    native = ModelRequest(parts=[ToolReturnPart("look", value, tool_call_id="c")])
    [draft] = message_drafts([native])
    [stored] = number([draft], "run")
    [in_its_run] = with_short_results([native], LIMIT)
    [afterwards] = model_messages([shortened(stored, LIMIT)])
    assert said(in_its_run) == said(afterwards)
    assert len(said(afterwards).encode()) <= LIMIT


def said(message: Any) -> str:
    """What a model reads of a result."""
    [part] = message.parts
    assert isinstance(part, ToolReturnPart)
    return part.model_response_str()
