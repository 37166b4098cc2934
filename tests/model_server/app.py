"""The stand-in model as an ASGI app: `POST /v1/chat/completions`, `GET /stats`, `GET /requests`."""

import asyncio
import hashlib
import json
import math
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.model_server import wire
from tests.model_server.behaviour import DEFAULT_RETRY_AFTER_S, Behaviour, Behaviours
from tests.model_server.chat import Answer, ChatRequest, ModelError
from tests.model_server.pairing import find_refusals
from tests.model_server.recording import Recording
from tests.model_server.replay import MISMATCH, Replay
from tests.model_server.script import Script, Scripts
from tests.model_server.stats import Counters

BROKEN_HISTORY = "broken_history"


class ClientGoneError(Exception):
    """The client closed its connection before it was answered."""


def create_app(
    recordings: Iterable[Recording] = (),
    scripts: Iterable[Script] = (),
    *,
    latency_s: float = 0.0,
    chunk_delay_s: float = 0.0,
    retry_after_s: float = DEFAULT_RETRY_AFTER_S,
    keep_requests: int = 0,
) -> Starlette:
    """Build the app.

    `latency_s` comes before every answer, `chunk_delay_s` after every streamed chunk,
    `retry_after_s` goes into the header of a 429. `GET /requests` returns the bodies of the last
    `keep_requests` chat requests. Raises RecordingError for a recording that cannot be replayed.
    """
    behaviours = Behaviours(
        {"replay": Replay(recordings), "script": Scripts(scripts)}, retry_after_s=retry_after_s
    )
    chat = ChatCompletions(behaviours, latency_s, chunk_delay_s, keep_requests)

    async def show_stats(request: Request) -> Response:
        return JSONResponse(asdict(chat.counters.stats))

    async def reset(request: Request) -> Response:
        chat.counters.reset()
        chat.kept.clear()
        return Response(status_code=204)

    async def show_requests(request: Request) -> Response:
        return JSONResponse(list(chat.kept))

    return Starlette(
        routes=[
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/stats", show_stats),
            Route("/stats", reset, methods=["DELETE"]),
            Route("/requests", show_requests),
        ]
    )


class ChatCompletions:
    """The endpoint: reads a request, has it answered, waits and writes.

    It is an ASGI app of its own, so that a request counts as in flight until its last byte is
    written or its client has left.
    """

    def __init__(
        self, behaviours: Behaviour, latency_s: float, chunk_delay_s: float, keep_requests: int
    ) -> None:
        self.counters = Counters()
        self.kept: deque[Any] = deque(maxlen=keep_requests)
        self._behaviours = behaviours
        self._latency_s = latency_s
        self._chunk_delay_s = chunk_delay_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        with self.counters.request():
            try:
                response = await self._respond(Request(scope, receive))
            except ModelError as failure:
                response = self._refuse(failure)
            except (ClientGoneError, ClientDisconnect):
                return
            await response(scope, receive, send)

    async def _respond(self, incoming: Request) -> Response:
        body = await incoming.body()
        request = self._read(body)
        self.counters.add(streamed=request.stream)
        _check_pairing(request)
        answer = self._behaviours(request)
        await _wait(incoming, self._latency_s + answer.delay_s)
        # Equal requests get answers with equal ids, so a retry is seen to be one.
        answer_id = f"chatcmpl-{hashlib.sha256(body).hexdigest()[:24]}"
        if not request.stream:
            return JSONResponse(wire.completion(request, answer, answer_id))
        events = self._stream(request, answer, answer_id)
        return StreamingResponse(events, media_type="text/event-stream")

    def _read(self, body: bytes) -> ChatRequest:
        try:
            parsed = json.loads(body)
        except ValueError as failure:
            raise ModelError(f"the body is no JSON: {failure}", code="invalid_request") from failure
        self.kept.append(parsed)
        return ChatRequest.from_body(parsed)

    async def _stream(
        self, request: ChatRequest, answer: Answer, answer_id: str
    ) -> AsyncIterator[bytes]:
        for event in wire.events(request, answer, answer_id):
            yield event
            if self._chunk_delay_s:
                await asyncio.sleep(self._chunk_delay_s)

    def _refuse(self, failure: ModelError) -> Response:
        self.counters.add(
            errors=1,
            mismatches=failure.code == MISMATCH,
            broken_histories=failure.code == BROKEN_HISTORY,
        )
        return JSONResponse(wire.error(failure), failure.status, failure.headers)


def _check_pairing(request: ChatRequest) -> None:
    """Refuse a history that providers refuse, whatever the model would have said to it."""
    for fault in find_refusals(request.messages):
        raise ModelError(str(fault), code=BROKEN_HISTORY)


async def _wait(incoming: Request, seconds: float) -> None:
    """Wait, however long, but no longer than the client does; raises ClientGoneError."""
    if seconds <= 0:
        return
    try:
        async with asyncio.timeout(None if seconds == math.inf else seconds):
            # The body has been read: the next thing a server has to say is that the client left.
            await incoming.receive()
    except TimeoutError:
        return
    raise ClientGoneError
