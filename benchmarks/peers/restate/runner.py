"""Runs of an agent that Restate makes durable, called through its ingress."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import _work
import httpx
from _work import Message, Work

SERVER_VERSION = "1.7.12"
FOLDER = Path(os.environ["PEER_FOLDER"])
CACHE = Path(os.environ.get("PEER_CACHE") or Path(sys.prefix) / "node") / SERVER_VERSION
"""Where npm puts the server."""

HYPERCORN = """
bind = "127.0.0.1:{port}"
workers = {workers}
worker_class = "uvloop"
h2_max_concurrent_streams = 2147483647
keep_alive_max_requests = 2147483647
keep_alive_timeout = 2147483647
"""
"""As Restate's documentation has it for production; uvloop comes from Hypercorn's."""

JOURNALS = """
SELECT called.target_service_key AS run, entry.entry_type, entry.entry_json
FROM sys_journal AS entry JOIN sys_invocation AS called ON entry.id = called.id
WHERE entry.entry_type IN ('Command: Input', 'Notification: Run')
ORDER BY entry.id, entry.index
"""


@dataclass(frozen=True)
class Server:
    """URLs of a running server."""

    ingress: str
    admin: str


def installed() -> Path:
    """Find the server's binary; let npm fetch it the first time."""
    binaries = "node_modules/@restatedev/restate-server-*/bin/restate-server"
    package = f"@restatedev/restate-server@{SERVER_VERSION}"
    if not list(CACHE.glob(binaries)):
        CACHE.mkdir(parents=True, exist_ok=True)
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]
        command = [*install, "--prefix", str(CACHE), package]
        subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603  all of it is ours
    return next(CACHE.glob(binaries))


@contextmanager
def services(work: Work) -> Iterator[str]:
    """Start the processes that serve the agent; give their URL."""
    port = _work.free_port()
    config = FOLDER / "hypercorn.toml"
    config.write_text(HYPERCORN.format(port=port, workers=work.workers), encoding="utf-8")
    environment = {"PEER_ROUNDS": str(work.rounds), "PEER_LATENCY_S": str(work.latency_s)}
    command = [sys.executable, "-m", "hypercorn", "--config", str(config), "service:app"]
    with _work.started(command, environment):
        _work.wait_port(port)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def restate() -> Iterator[Server]:
    """Start a server with nothing in it."""
    ingress, admin, fabric = (f"127.0.0.1:{_work.free_port()}" for _ in range(3))
    environment = {
        "RESTATE_BASE_DIR": str(FOLDER / "restate"),
        "RESTATE_NODE_NAME": "peer",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_ADDRESS": fabric,
        "RESTATE_ADVERTISED_ADDRESS": f"http://{fabric}",
        "RESTATE_INGRESS__BIND_ADDRESS": ingress,
        "RESTATE_ADMIN__BIND_ADDRESS": admin,
        "RESTATE_LOG_FILTER": "warn",
        "RESTATE_DISABLE_TELEMETRY": "true",
    }
    with _work.started([str(installed())], environment):
        for health in (f"http://{admin}/health", f"http://{ingress}/restate/health"):
            _work.wait_until(partial(is_healthy, health))
        yield Server(ingress=f"http://{ingress}", admin=f"http://{admin}")


def is_healthy(url: str) -> bool:
    """Say whether somebody answers well."""
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


async def has_answer(client: httpx.AsyncClient, run: int) -> bool:
    """Do a run; say whether it went well."""
    response = await client.post(f"/shop/{run}/answer", json=_work.question(run))
    return bool(response.raise_for_status().json() == _work.final(run))


async def query(server: Server, sql: str) -> list[dict[str, Any]]:
    """Ask the server about what it keeps."""
    async with httpx.AsyncClient(base_url=server.admin, timeout=600) as client:
        response = await client.post(
            "/query", json={"query": sql}, headers={"accept": "application/json"}
        )
        rows: list[dict[str, Any]] = response.raise_for_status().json()["rows"]
        return rows


async def drive(work: Work, server: Server, started_at: float) -> int:
    """Warm up, do the work, look at what is left, report."""
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=server.ingress, limits=unlimited, timeout=600) as client:
        await asyncio.gather(*(has_answer(client, run) for run in work.warm_up))
        startup_s = time.monotonic() - started_at
        began = time.monotonic()
        ended = await asyncio.gather(*(has_answer(client, run) for run in range(work.runs)))
        wall_s = time.monotonic() - began
    return _work.report(
        work,
        wall_s=wall_s,
        startup_s=startup_s,
        version=f"restate-server {SERVER_VERSION}",
        completed=sum(ended),
        stored=await stored(server, work),
    )


async def stored(server: Server, work: Work) -> int:
    """Count right messages in the journals of all runs."""
    journals = defaultdict(list)
    for entry in await query(server, JOURNALS):
        journals[int(entry["run"])].append(entry)
    return sum(matches(messages_in(journals[run]), run, work.rounds) for run in range(work.runs))


def messages_in(journal: list[dict[str, Any]]) -> list[Message]:
    """Read the input of an invocation and what its steps gave, in order."""
    messages: list[Message] = []
    for entry in journal:
        if entry["entry_type"] == "Command: Input":
            kept = json.loads(entry["entry_json"])["Command"]["Input"]["payload"]
            messages.append({"role": "user", "content": json.loads(bytes(kept))})
            continue
        run = json.loads(entry["entry_json"])["Notification"]["Completion"]["Run"]
        result = json.loads(bytes(run["result"]["Success"]))
        if isinstance(result, str):
            call_id = messages[-1]["tool_calls"][0]["id"]
            result = {"role": "tool", "tool_call_id": call_id, "content": result}
        messages.append(result)
    return messages


def matches(messages: list[Message], run: int, rounds: int) -> int:
    """Count them, if they are what is said in a run, and all of it."""
    return len(messages) if messages == _work.transcript(run, rounds) else 0


def main() -> int:
    work = _work.parse()
    installed()
    started_at = time.monotonic()
    with services(work) as url, restate() as server:
        httpx.post(f"{server.admin}/deployments", json={"uri": url}).raise_for_status()
        return asyncio.run(drive(work, server, started_at))


if __name__ == "__main__":
    sys.exit(main())
