"""The bytes of an answer: one chat completion, or the same as server-sent events."""

import json
import time
from collections.abc import Iterator
from typing import Any

from tests.model_server.chat import Answer, ChatRequest, ModelError

PIECE_CHARACTERS = 24
"""How much text or how many argument characters one streamed chunk carries."""

DONE = b"data: [DONE]\n\n"

Json = dict[str, Any]


def completion(request: ChatRequest, answer: Answer, answer_id: str) -> Json:
    """Return the `chat.completion` object of an answer that is not streamed."""
    message: Json = {"role": "assistant", "content": answer.text}
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    head = _head(request, answer_id, "chat.completion")
    return head | {"choices": [choice], "usage": usage(request, answer)}


def events(request: ChatRequest, answer: Answer, answer_id: str) -> Iterator[bytes]:
    """Yield the answer as `chat.completion.chunk` events, the usage if asked for, and the end."""
    head = _head(request, answer_id, "chat.completion.chunk")
    if request.include_usage:
        head["usage"] = None  # as OpenAI sends it: null until the last chunk, which has no choice
    for delta in _deltas(answer):
        choice = {"index": 0, "delta": delta, "finish_reason": None}
        yield _event(head | {"choices": [choice]})
    last = {"index": 0, "delta": {}, "finish_reason": answer.finish_reason}
    yield _event(head | {"choices": [last]})
    if request.include_usage:
        yield _event(head | {"choices": [], "usage": usage(request, answer)})
    yield DONE


def usage(request: ChatRequest, answer: Answer) -> Json:
    """Return token counts that depend on nothing but the texts: characters over four."""
    return {
        "prompt_tokens": request.tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": request.tokens + answer.tokens,
    }


def error(failure: ModelError) -> Json:
    """Return the error object as OpenAI's client reads it."""
    kind = "invalid_request_error" if failure.status < 429 else "server_error"
    return {"error": {"message": str(failure), "type": kind, "param": None, "code": failure.code}}


def _deltas(answer: Answer) -> Iterator[Json]:
    """Yield the role, then the text in pieces, then each call: its head first, arguments after."""
    yield {"role": "assistant", "content": None if answer.text is None else ""}
    for piece in _pieces(answer.text or ""):
        yield {"content": piece}
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": ""}
        opening = {"index": index, "id": call.id, "type": "function", "function": function}
        yield {"tool_calls": [opening]}
        for piece in _pieces(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE_CHARACTERS):
        yield text[start : start + PIECE_CHARACTERS]


def _head(request: ChatRequest, answer_id: str, kind: str) -> Json:
    return {"id": answer_id, "object": kind, "created": int(time.time()), "model": request.model}


def _event(chunk: Json) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"
