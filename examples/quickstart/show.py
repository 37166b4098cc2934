"""Show the system once: submit a run, watch it live, leave nothing behind."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from agent_client import AgentClient, RunStatus, Settings
from agent_client.live_view import LiveRun, choose_viewer
from examples.quickstart.system import AGENTS_MODULE, System, find_url
from shared.embedded_redis import find_redis_server
from shared.log import configure_logging

PROMPT: Final = "A weekend in Lisbon from Vienna for two, with at most 600 USD, please."
CONVERSATION: Final = "quickstart:you:travel"


def show_once() -> int:
    """Start a system, show a run in it, and stop it again; return the exit code."""
    if not find_url() and find_redis_server() is None:
        return _show_locally()
    with (
        tempfile.TemporaryDirectory(prefix="celery-agents-") as folder,
        System(Path(folder)) as system,
    ):
        try:
            _start(system)
            with AgentClient(system.settings) as client:
                is_completed = show_run(client)
        except Exception:
            print(f"\n{system.last_words()}", file=sys.stderr)
            raise
        if not is_completed:
            print(f"\n{system.last_words()}", file=sys.stderr)
            return 1
    print(f"\nAll of it is stopped again. Try next:\n\n{commands_to_try()}")
    return 0


def show_run(client: AgentClient) -> bool:
    """Submit a run and show it while it happens; return whether it completed."""
    run = client.submit("travel", PROMPT, conversation_id=CONVERSATION)
    with choose_viewer(LiveRun.of(run.get()), Console()) as viewer:
        for event in run.events():
            viewer.show(event)
        ended = run.get()
        viewer.end(ended)
    return ended.status is RunStatus.COMPLETED


def commands_to_try() -> str:
    """What somebody who saw a run might do next."""
    return f"""\
    make up
    . .agents/env
    {program("agent-client")} submit travel "Rome for three" --conversation you
    make down"""


def program(name: str) -> str:
    """A program of this Python's environment, as one would type it here."""
    path = Path(sys.executable).parent / name
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _start(system: System) -> None:
    system.start_redis()
    if system.redis is None:
        print("Redis    the one that AGENTS_REDIS_URL names")
    else:
        print(f"Redis    {system.url}, started for this (pid {system.redis.pid})")
    system.start_worker()
    took_s = system.wait_ready()
    pids = ", ".join(str(process.pid) for process in system.processes if process.name == "worker")
    print(f"Worker   {AGENTS_MODULE}, ready after {took_s:.1f} s (pid {pids})\n", flush=True)


def _show_locally() -> int:
    print(
        "No Redis server was found on this machine, so client and worker share this process, in\n"
        "local mode: the same system, but its conversations end with it. For the real thing,\n"
        "install redis-server or valkey-server, or set AGENTS_REDIS_URL.\n"
    )
    configure_logging(Settings(log_level="warning"))  # what the worker says would be in between
    with AgentClient.local(AGENTS_MODULE) as client:
        return 0 if show_run(client) else 1
