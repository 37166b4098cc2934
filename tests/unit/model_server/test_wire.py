import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.model_server import Answer, ToolCall
from tests.model_server.chat import ChatRequest
from tests.model_server.wire import DONE, completion, events, usage

REQUEST = ChatRequest("echo", ({"role": "user", "content": "x" * 10},), include_usage=True)

ANSWERS = st.builds(
    Answer,
    text=st.none() | st.text(max_size=80),
    calls=st.lists(
        st.builds(ToolCall, id=st.text(min_size=1), name=st.text(), arguments=st.text(max_size=80)),
        max_size=3,
    ).map(tuple),
)


def _chunks(answer: Answer, request: ChatRequest = REQUEST) -> list[dict[str, Any]]:
    *chunks, end = events(request, answer, "some-id")
    assert end == DONE
    return [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks]


def _join(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """Put a message together from deltas, as a client does."""
    message: dict[str, Any] = {}
    for delta in (chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]):
        message["role"] = delta.get("role", message.get("role"))
        for piece in (delta[key] for key in ("content",) if key in delta):
            message["content"] = piece if piece is None else (message.get("content") or "") + piece
        for call in delta.get("tool_calls", ()):
            calls = message.setdefault("tool_calls", [])
            if call["index"] == len(calls):
                calls.append({"id": call["id"], "type": "function", "function": call["function"]})
            else:
                calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    return message


@given(answer=ANSWERS)
def test_the_streamed_answer_is_the_whole_answer(answer: Answer) -> None:
    """Whatever the text and the arguments, the deltas add up to the message, to the character."""
    whole = completion(REQUEST, answer, "some-id")["choices"][0]
    chunks = _chunks(answer)
    assert _join(chunks) == whole["message"]
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]]
    assert reasons == [None] * (len(reasons) - 1) + [whole["finish_reason"]]


def test_usage_comes_last_and_only_where_asked_for() -> None:
    """The usage chunk has no choice; without the option no chunk mentions usage."""
    last = _chunks(Answer("hello"))[-1]
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    silent = ChatRequest("echo", REQUEST.messages)
    assert not any("usage" in chunk for chunk in _chunks(Answer("hello"), silent))


def test_long_texts_and_arguments_come_in_several_pieces() -> None:
    """A client that does not add deltas up is found out."""
    chunks = _chunks(Answer("word " * 20, (ToolCall("i", "look", '{"a": "%s"}' % ("b" * 60)),)))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert sum("content" in delta for delta in deltas) > 3
    assert sum("tool_calls" in delta for delta in deltas) > 3


def test_usage_counts_all_that_is_sent_and_said() -> None:
    """Tool calls and parts of a text count too: characters over four, rounded up."""
    asked = {"function": {"name": "look", "arguments": "{}"}}
    messages = (
        {"role": "user", "content": [{"type": "text", "text": "abcd"}]},
        {"role": "assistant", "content": None, "tool_calls": [asked]},
    )
    counted = usage(ChatRequest("echo", messages), Answer(None, (ToolCall("i", "look", "{}"),)))
    assert counted == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
