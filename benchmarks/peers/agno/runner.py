"""Runs of an agent behind Agno's AgentOS, posted and watched over HTTP."""

import asyncio
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import _work
import httpx
from _work import Message, Work

RUNS = "/agents/shop/runs"


@dataclass(frozen=True)
class Ended:
    """How a run went."""

    id: str
    is_right: bool
    seen: int


@contextmanager
def server(work: Work) -> Iterator[str]:
    """Start it; give its URL."""
    port = _work.free_port()
    environment = {
        "PEER_ROUNDS": str(work.rounds),
        "PEER_LATENCY_S": str(work.latency_s),
        "PEER_AT_ONCE": str(math.ceil(work.runs / work.workers)),
        "PEER_VARIANT": work.variant,
    }
    command = [sys.executable, "-m", "uvicorn", "server:app", "--no-access-log"]
    options = {"--port": port, "--workers": work.workers, "--log-level": "warning"}
    for option, value in options.items():
        command += [option, str(value)]
    with _work.started(command, environment):
        _work.wait_port(port)
        yield f"http://127.0.0.1:{port}"


async def events(client: httpx.AsyncClient, work: Work, run: int) -> AsyncIterator[dict[str, Any]]:
    """Post a run; yield its events as they come."""
    form = {
        "message": _work.question(run),
        "session_id": f"conversation-{run}",
        "stream": "true",
        "background": "true" if work.variant == "durable" else "false",
    }
    async with client.stream("POST", RUNS, data=form) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def said(event: dict[str, Any], run: int) -> Message | None:
    """Read a message off an event, if it tells one.

    The first event tells that the input is there, without repeating it.
    """
    match event["event"]:
        case "RunStarted":
            return _work.input_of(run)
        case "ToolCallStarted":
            tool = event["tool"]
            function = {"name": tool["tool_name"], "arguments": json.dumps(tool["tool_args"])}
            call = {"id": tool["tool_call_id"], "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "ToolCallCompleted":
            tool = event["tool"]
            return {
                "role": "tool",
                "tool_call_id": tool["tool_call_id"],
                "content": tool["result"],
            }
        case "RunCompleted":
            return {"role": "assistant", "content": event["content"]}
    return None


async def watched(client: httpx.AsyncClient, work: Work, run: int) -> Ended:
    """Do a run and see all that is said."""
    messages = []
    run_id = ""
    async for event in events(client, work, run):
        message = said(event, run)
        if message:
            messages.append(message)
            run_id = event["run_id"]
    is_right = bool(messages) and messages[-1] == _work.answer(run)
    return Ended(run_id, is_right, matches(messages, run, work.rounds))


async def stored(client: httpx.AsyncClient, run: int, run_id: str, rounds: int) -> int:
    """Count right messages in what is kept of a run; without an id nothing is."""
    if not run_id:
        return 0
    response = await client.get(f"{RUNS}/{run_id}", params={"session_id": f"conversation-{run}"})
    fields = ("role", "content", "tool_calls", "tool_call_id")
    messages = [
        {field: kept[field] for field in fields if kept.get(field) is not None}
        for kept in response.raise_for_status().json()["messages"]
    ]
    for message in messages:
        if message["role"] == "assistant":
            message.setdefault("content", None)
    return matches(messages, run, rounds)


def matches(messages: list[Message], run: int, rounds: int) -> int:
    """Count them, if they are what is said in a run, and all of it."""
    return len(messages) if messages == _work.transcript(run, rounds) else 0


async def drive(work: Work, url: str, started_at: float) -> int:
    """Warm up, do the work, look at what is left, report."""
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=unlimited, timeout=600) as client:
        await asyncio.gather(*(watched(client, work, run) for run in work.warm_up))
        startup_s = time.monotonic() - started_at
        began = time.monotonic()
        ended = await asyncio.gather(*(watched(client, work, run) for run in range(work.runs)))
        wall_s = time.monotonic() - began
        kept = [await stored(client, run, one.id, work.rounds) for run, one in enumerate(ended)]
    return _work.report(
        work,
        wall_s=wall_s,
        startup_s=startup_s,
        version=version("agno"),
        completed=sum(one.is_right for one in ended),
        seen=sum(one.seen for one in ended),
        stored=sum(kept),
    )


def main() -> int:
    work = _work.parse()
    started_at = time.monotonic()
    with server(work) as url:
        return asyncio.run(drive(work, url, started_at))


if __name__ == "__main__":
    sys.exit(main())
