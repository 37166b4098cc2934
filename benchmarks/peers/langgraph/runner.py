"""Runs of a graph behind LangGraph's development server, created and watched over HTTP."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import UUID

import _work
import httpx
from _work import Message, Work
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

HERE = Path(__file__).parent
QUIET = {
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
    "LANGSMITH_TRACING": "false",
    "LOG_LEVEL": "ERROR",
}
"""Nothing is told to anybody, and nobody is asked for newer versions; the log has errors."""


@contextmanager
def server(work: Work) -> Iterator[str]:
    """Start it; give its URL. What it writes is in the peer's folder."""
    folder = Path(os.environ["PEER_FOLDER"])
    config = folder / "langgraph.json"
    graphs = {"shop": f"{HERE / 'shop.py'}:graph"}
    config.write_text(json.dumps({"dependencies": ["."], "graphs": graphs}), encoding="utf-8")
    port = _work.free_port()
    environment = {
        **QUIET,
        "PEER_ROUNDS": str(work.rounds),
        "PEER_LATENCY_S": str(work.latency_s),
    }
    command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"]
    options = {
        "--config": config,
        "--port": port,
        "--n-jobs-per-worker": work.runs,
        "--server-log-level": "error",
    }
    for option, value in options.items():
        command += [option, str(value)]
    with chdir(folder), _work.started(command, environment):
        _work.wait_until(lambda: is_up(port))
        yield f"http://127.0.0.1:{port}"


def is_up(port: int) -> bool:
    """Say whether the server answers; it listens before its graphs are loaded."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ok").is_success
    except httpx.TransportError:
        return False


def chat_form(message: dict[str, Any]) -> Message:
    """Read one of LangChain's messages."""
    match message["type"]:
        case "human":
            return {"role": "user", "content": message["content"]}
        case "tool":
            return {
                "role": "tool",
                "tool_call_id": message["tool_call_id"],
                "content": message["content"],
            }
    if not message["tool_calls"]:
        return {"role": "assistant", "content": message["content"]}
    call = message["tool_calls"][0]
    function = {"name": call["name"], "arguments": json.dumps(call["args"])}
    tool_call = {"id": call["id"], "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [tool_call]}


async def watched(client: LangGraphClient, work: Work, run: int) -> tuple[bool, int]:
    """Do a run and see all that is said.

    The first event tells that the input is there, without repeating it.

    Returns:
        Whether it went well, and how many messages were right.
    """
    stream = client.runs.stream(
        thread_of(run),
        "shop",
        input={"messages": [_work.input_of(run)]},
        stream_mode="updates",
        if_not_exists="create",
    )
    messages: list[Message] = []
    async for part in stream:
        if part.event == "metadata":
            messages.append(_work.input_of(run))
        elif part.event == "updates":
            for update in part.data.values():
                messages += [chat_form(message) for message in update["messages"]]
    is_right = bool(messages) and messages[-1] == _work.answer(run)
    return is_right, matches(messages, run, work.rounds)


async def stored(client: LangGraphClient, work: Work, run: int) -> int:
    """Count right messages in the values that are kept of a thread."""
    thread: Any = await client.threads.get(thread_of(run))
    messages = [chat_form(message) for message in thread["values"]["messages"]]
    return matches(messages, run, work.rounds)


def thread_of(run: int) -> str:
    """Name the conversation of a run."""
    return str(UUID(int=run))


def matches(messages: list[Message], run: int, rounds: int) -> int:
    """Count them, if they are what is said in a run, and all of it."""
    return len(messages) if messages == _work.transcript(run, rounds) else 0


async def drive(work: Work, url: str, started_at: float) -> int:
    """Warm up, do the work, look at what is left, report."""
    client = get_client(url=url, timeout=600)
    await asyncio.gather(*(watched(client, work, run) for run in work.warm_up))
    startup_s = time.monotonic() - started_at
    began = time.monotonic()
    ended = await asyncio.gather(*(watched(client, work, run) for run in range(work.runs)))
    wall_s = time.monotonic() - began
    kept = [await stored(client, work, run) for run in range(work.runs)]
    return _work.report(
        work,
        wall_s=wall_s,
        startup_s=startup_s,
        version=version("langgraph-api"),
        completed=sum(is_right for is_right, _ in ended),
        seen=sum(count for _, count in ended),
        stored=sum(kept),
    )


def main() -> int:
    work = _work.parse()
    if work.workers != 1:
        sys.exit("The development server is one process.")
    started_at = time.monotonic()
    with server(work) as url:
        return asyncio.run(drive(work, url, started_at))


if __name__ == "__main__":
    sys.exit(main())
