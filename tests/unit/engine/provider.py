"""A provider of models on a local port: answers each request with the next thing on its list."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from openai import AsyncOpenAI
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


@dataclass
class Reply:
    """What to answer: a status with a JSON body, or pieces of a stream.

    `breaks` closes the connection behind the last piece, as a provider that dies would; `hangs`
    never answers.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: Sequence[str] | None = None
    breaks: bool = False
    hangs: bool = False


@dataclass
class Provider:
    """The provider; `requests` are the bodies that it was sent."""

    replies: list[Reply]
    requests: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def model(self) -> OpenAIChatModel:
        """A model of this provider, over the real client with its usual settings."""
        client = AsyncOpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key="sk-secret-0123456789"
        )
        return OpenAIChatModel("gpt-4o", provider=OpenAIProvider(openai_client=client))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            self.requests.append(json.loads(await reader.readexactly(length)))
            reply = self.replies.pop(0)
            if reply.hangs:
                await reader.read()
            else:
                await self._write(writer, reply)
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        kind = "application/json" if reply.pieces is None else "text/event-stream"
        headers = {"content-type": kind, "connection": "close", **reply.headers}
        lines = [f"HTTP/1.1 {reply.status} Said", *(f"{k}: {v}" for k, v in headers.items())]
        if reply.pieces is None:
            body = json.dumps(reply.body).encode()
            lines.append(f"content-length: {len(body)}")
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await writer.drain()
            return
        lines.append("transfer-encoding: chunked")
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        for piece in reply.pieces:
            _write_chunk(writer, f"data: {json.dumps(_chunk({'content': piece}))}\n\n")
            await writer.drain()
        if not reply.breaks:
            _write_chunk(writer, f"data: {json.dumps(_chunk({}, 'stop'))}\n\ndata: [DONE]\n\n")
            writer.write(b"0\r\n\r\n")
            await writer.drain()


@asynccontextmanager
async def provider(*replies: Reply) -> AsyncIterator[Provider]:
    """A provider with these replies, in order."""
    one = Provider(list(replies))
    server = await asyncio.start_server(one.answer, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    async with server:
        yield one


def says(text: str) -> Reply:
    """A complete answer."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    return Reply(body=_completion("chat.completion", choice) | {"usage": usage})


def refuses(status: int, words: str, **headers: str) -> Reply:
    """An error in OpenAI's form."""
    body = {"error": {"message": words, "type": "error", "param": None, "code": None}}
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return _completion("chat.completion.chunk", choice)


def _completion(kind: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "c-1", "object": kind, "created": 1, "model": "gpt-4o", "choices": [choice]}


def _write_chunk(writer: asyncio.StreamWriter, text: str) -> None:
    data = text.encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
