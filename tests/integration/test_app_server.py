"""The example app server over real HTTP, with a local client behind it."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from httpx_sse import aconnect_sse
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from agent_client import AsyncAgentClient, Settings
from examples.app_server.app import app, opened_client

ANSWER = ("It ", "is ", "sunny.")


class Gate:
    """A tool that waits until a test lets it through."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()

    async def look_outside(self) -> str:
        """Look out of the window."""
        await self.is_open.wait()
        return "sunny"


async def speak(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    """A model that looks outside first, then answers in three pieces."""
    if not any(isinstance(message, ModelResponse) for message in messages):
        yield {0: DeltaToolCall("look_outside", "{}", tool_call_id="call")}
        return
    for piece in ANSWER:
        yield piece


@pytest.fixture
def gate() -> Gate:
    """Closed until a test opens it."""
    return Gate()


@pytest.fixture
async def client(gate: Gate) -> AsyncIterator[AsyncAgentClient]:
    """A client with a worker of its own, that serves `weather`."""
    agent = Agent(FunctionModel(stream_function=speak), name="weather", tools=[gate.look_outside])
    # A tool behind a closed gate would otherwise be given time to end.
    async with AsyncAgentClient.local(agent, settings=Settings(handover_grace_s=0)) as client:
        yield client


@pytest.fixture
async def http(client: AsyncAgentClient) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the app server, which runs under uvicorn on a free port."""
    app.dependency_overrides[opened_client] = lambda: client
    config = uvicorn.Config(
        app, lifespan="off", log_level="warning", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # so that requests wait for the server instead of being refused
        serving = asyncio.create_task(server.serve([listener]), name="uvicorn")
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base, timeout=10) as http:
            yield http
        server.should_exit = True
        await serving
    app.dependency_overrides.clear()


async def submit(http: httpx.AsyncClient, **more: str) -> dict[str, str]:
    """Submit a run; return its links."""
    response = await http.post("/runs", json={"agent": "weather", "input": "Umbrella?", **more})
    assert response.status_code == 202
    links: dict[str, str] = response.json()["links"]
    return links


@dataclass(frozen=True)
class Event:
    """A server-sent event."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def sort(self) -> str:
        """What it is about, in one word."""
        if self.type == "message":
            message = self.data["message"]
            return "call" if message.get("tool_calls") else str(message["role"])
        return str(self.data.get("status", self.type))


async def watch(
    http: httpx.AsyncClient, links: dict[str, str], *, last: str | None = None
) -> AsyncGenerator[Event, None]:
    """The events of a run, behind the id of the last one that was seen."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with aconnect_sse(http, "GET", links["events"], headers=headers) as source:
        async for event in source.aiter_sse():
            yield Event(event.id, event.event, json.loads(event.data))


async def watch_until(http: httpx.AsyncClient, links: dict[str, str], sort: str) -> list[Event]:
    """Watch up to the first event of a sort, then hang up."""
    seen = []
    async with aclosing(watch(http, links)) as events:
        async for event in events:
            seen.append(event)
            if event.sort == sort:
                break
    return seen


async def test_events_come_while_the_run_goes_on_and_in_order(
    http: httpx.AsyncClient, gate: Gate
) -> None:
    """A tool call is seen before its tool ends; then the rest; then the stream ends."""
    links = await submit(http)
    sorts = []
    async for event in watch(http, links):
        sorts.append(event.sort)
        if sorts[-1] == "call":
            gate.is_open.set()  # nobody opened it before, so this was seen live
    kinds = [each for each in sorts if each not in {"delta", "queued"}]
    assert kinds == ["running", "user", "call", "tool", "assistant", "completed"]
    assert "delta" in sorts[sorts.index("tool") : sorts.index("assistant")]


async def test_deltas_make_up_the_answer(http: httpx.AsyncClient, gate: Gate) -> None:
    """The pieces of text that are pushed are the start of the stored message."""
    gate.is_open.set()
    events = [event async for event in watch(http, await submit(http))]
    text = "".join(event.data["text"] for event in events if event.type == "delta")
    assert text == "".join(ANSWER)


async def test_every_event_resumes_to_exactly_the_rest(http: httpx.AsyncClient, gate: Gate) -> None:
    """Whatever event came last, reconnecting with its id gives those behind it and no other."""
    gate.is_open.set()
    links = await submit(http)
    events = [event async for event in watch(http, links)]
    assert len(events) > 5
    for index, event in enumerate(events):
        rest = [later async for later in watch(http, links, last=event.id)]
        assert rest == events[index + 1 :]


async def test_a_watcher_that_was_cut_off_misses_nothing(
    http: httpx.AsyncClient, gate: Gate
) -> None:
    """Hanging up in the middle of a run and coming back shows all of it once."""
    links = await submit(http)
    first = await watch_until(http, links, "call")
    gate.is_open.set()
    rest = [event async for event in watch(http, links, last=first[-1].id)]
    assert rest[-1].sort == "completed"
    assert first + rest == [event async for event in watch(http, links)]


async def test_a_cancelled_run_ends_its_stream(http: httpx.AsyncClient, gate: Gate) -> None:
    """Cancelling is accepted, and watchers see it as the last event."""
    links = await submit(http)
    assert (await watch_until(http, links, "call"))[-1].sort == "call"
    response = await http.post(links["cancel"])
    assert (response.status_code, response.json()["result"]) == (202, "requested")
    assert [event async for event in watch(http, links)][-1].sort == "cancelled"
    assert (await http.get(links["run"])).json()["status"] == "cancelled"
    assert not gate.is_open.is_set()


async def test_one_idempotency_key_is_one_run(http: httpx.AsyncClient) -> None:
    """Trying again gives the run of before; another request under the key is a conflict."""
    request = {"agent": "weather", "input": "Umbrella?"}
    key = {"Idempotency-Key": "once"}
    first = await http.post("/runs", json=request, headers=key)
    again = await http.post("/runs", json=request, headers=key)
    assert first.json() == again.json()
    other = await http.post("/runs", json={**request, "input": "Sunglasses?"}, headers=key)
    assert other.status_code == 409
    assert other.json()["error"] == "IdempotencyConflictError"


async def test_a_conversation_is_read_behind_a_cursor(http: httpx.AsyncClient, gate: Gate) -> None:
    """Each message carries the cursor that leads to those behind it."""
    gate.is_open.set()
    links = await submit(http, conversation_id="web:ada:weather")
    assert [event async for event in watch(http, links)]
    path = "/conversations/web:ada:weather/messages"
    messages = (await http.get(path)).json()
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert not any("engine" in message for message in messages)
    rest = (await http.get(path, params={"after": messages[1]["cursor"]})).json()
    assert rest == messages[2:]


@pytest.mark.parametrize(
    ("path", "headers", "status", "error"),
    [
        (f"/runs/run-0-{'0' * 32}", {}, 404, "UnknownRunError"),
        (f"/runs/run-0-{'0' * 32}/events", {}, 404, "UnknownRunError"),
        ("/runs/nonsense", {}, 422, "InvalidIdError"),
        ("/conversations/a..b/messages", {}, 422, "InvalidIdError"),
        ("/conversations/a/messages?after=nonsense", {}, 422, "InvalidCursorError"),
    ],
)
async def test_what_cannot_be_found_is_an_answer_with_a_name(
    http: httpx.AsyncClient, path: str, headers: dict[str, str], status: int, error: str
) -> None:
    """Wrong ids and cursors are 4xx, with the error's name and what to do, as JSON."""
    response = await http.get(path, headers=headers)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert response.json()["message"]


async def test_a_made_up_last_event_id_is_refused(http: httpx.AsyncClient, gate: Gate) -> None:
    """A cursor that is none is an answer; one that only looks like one ends the stream with why."""
    gate.is_open.set()
    links = await submit(http)
    assert [event async for event in watch(http, links)]
    response = await http.get(links["events"], headers={"Last-Event-ID": "nonsense"})
    assert (response.status_code, response.json()["error"]) == (422, "InvalidCursorError")
    (event,) = [event async for event in watch(http, links, last="non|sense")]
    assert (event.type, event.data["error"]) == ("failure", "InvalidCursorError")


async def test_an_unknown_agent_is_refused_with_those_there_are(http: httpx.AsyncClient) -> None:
    """A wrong name is 404, and the message helps."""
    response = await http.post("/runs", json={"agent": "wether", "input": "?"})
    assert response.status_code == 404
    assert "weather" in response.json()["message"]


async def test_without_redis_the_answer_is_try_again() -> None:
    """A store that does not answer is 503, not a fault of the caller."""
    settings = Settings.model_validate(
        {"redis_url": "redis://127.0.0.1:1/0", "redis_timeout_s": 0.5}
    )
    async with AsyncAgentClient(settings) as client:
        app.dependency_overrides[opened_client] = lambda: client
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
            response = await http.get(f"/runs/run-0-{'0' * 32}")
        app.dependency_overrides.clear()
    assert (response.status_code, response.json()["error"]) == (503, "StoreUnavailableError")


async def test_a_quiet_stream_is_kept_alive(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing happens, comments tell proxies that somebody is still there."""
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    links = await submit(http)
    async with http.stream("GET", links["events"]) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line.startswith(":"):
                break
        else:
            pytest.fail("the stream ended without a comment")


async def test_the_page_is_served(http: httpx.AsyncClient) -> None:
    """A browser gets a page that watches runs."""
    response = await http.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "EventSource" in response.text


def test_the_app_server_needs_no_llm_library() -> None:
    """Its container image is made of the light client only."""
    program = (
        "import sys, examples.app_server.app\n"
        "heavy = {'pydantic_ai', 'openai', 'agent_worker'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    repository = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=repository, check=True, timeout=60)
