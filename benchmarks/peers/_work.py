"""The work that all peers do, and how a runner reports its figures. Standard library only.

The suite starts a runner with the Python of the peer's own environment and this folder on its path:

    python runner.py --runs N --rounds R --latency-s L --workers W [--variant V]

In each round the model is called. All rounds but the last ask for a tool and get its result at
once; the last one is the answer. With its input a run has 2 R messages, in OpenAI's chat form.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

Message = dict[str, Any]

TOOL: Final = "look_up"
"""The one tool's name."""

WARM_UP_FIRST: Final = 1_000_000
"""Runs from this number on are not counted."""
WARM_UP_RUNS: Final = 20
"""For each worker."""

STARTUP_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 3.0
"""What was started may take so long to end by itself before it is killed."""


@dataclass(frozen=True)
class Work:
    """What is asked of a peer."""

    runs: int
    rounds: int
    latency_s: float
    """One model call."""
    workers: int
    variant: str

    @property
    def messages(self) -> int:
        """How many all runs have together."""
        return self.runs * 2 * self.rounds

    @property
    def warm_up(self) -> range:
        """Numbers of the runs that come before those that are measured."""
        return range(WARM_UP_FIRST, WARM_UP_FIRST + WARM_UP_RUNS * self.workers)


def parse() -> Work:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--latency-s", type=float, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--variant", default="")
    return Work(**vars(parser.parse_args()))


# --- What is said; runs count from 0, rounds from 1 -----------------------------------------------


def question(run: int) -> str:
    """What the user asks."""
    return f"Question {run}: which of the teas in the shop is the right one for a rainy afternoon?"


def arguments(run: int, number: int) -> dict[str, int]:
    """What the model asks the tool in one round."""
    return {"run": run, "number": number}


def look_up(run: int, number: int) -> str:
    """Answer at once, as the tool does, with about 100 characters."""
    return (f"Shelf {number} for question {run}: " + "green, black and white tea; " * 4)[:100]


def final(run: int) -> str:
    """Say what the model says in the last round: about 100 characters."""
    return (f"Answer {run}: a smoky black one, " + "with milk if you like, " * 4)[:100]


def call_id(run: int, number: int) -> str:
    """Name the call of one round."""
    return f"call-{run}-{number}"


# --- The same as messages -------------------------------------------------------------------------


def input_of(run: int) -> Message:
    """The user's message."""
    return {"role": "user", "content": question(run)}


def call(run: int, number: int) -> Message:
    """The assistant's message of a round that is not the last."""
    function = {"name": TOOL, "arguments": json.dumps(arguments(run, number))}
    tool_call = {"id": call_id(run, number), "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [tool_call]}


def result(run: int, number: int) -> Message:
    """The tool's message of a round that is not the last."""
    return {
        "role": "tool",
        "tool_call_id": call_id(run, number),
        "content": look_up(run, number),
    }


def answer(run: int) -> Message:
    """The assistant's last message."""
    return {"role": "assistant", "content": final(run)}


def transcript(run: int, rounds: int) -> list[Message]:
    """All 2 R messages of a run, in order."""
    middle = [say(run, number) for number in range(1, rounds) for say in (call, result)]
    return [input_of(run), *middle, answer(run)]


async def agent(run: int, rounds: int, latency_s: float) -> AsyncIterator[Message]:
    """Yield each message of a run as it comes to exist, for systems without a loop of their own."""
    yield input_of(run)
    for number in range(1, rounds):
        await asyncio.sleep(latency_s)
        yield call(run, number)
        yield result(run, number)
    await asyncio.sleep(latency_s)
    yield answer(run)


# --- Where a system leaves the messages to its users: one Redis list for each run -----------------

WORKERS_READY: Final = "workers-ready"
"""Redis key: how many workers said that they are ready."""


def conversation_of(run: int) -> str:
    """Name the list that a run's messages are pushed to, each as JSON."""
    return f"conversation:{run}"


def count_stored(work: Work, read: Callable[[str], Sequence[str | bytes]]) -> int:
    """Count the messages of all runs; those of a run that has others, or more, do not count.

    Args:
        work: What was asked for.
        read: Gives all values of a list by its key.
    """
    count = 0
    for run in range(work.runs):
        stored = [json.loads(each) for each in read(conversation_of(run))]
        if stored == transcript(run, work.rounds):
            count += len(stored)
    return count


# --- Workers and servers --------------------------------------------------------------------------


@contextmanager
def started(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command beside this one; what it prints goes to standard error.

    It is stopped when the context ends: with SIGTERM, then, its children too, with SIGKILL. From
    now on SIGTERM ends this process as `sys.exit` would, so that contexts do end.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    process = subprocess.Popen(  # noqa: S603  the runner's own command
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,  # a process group of its own
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(is_so: Callable[[], bool], timeout_s: float = STARTUP_TIMEOUT_S) -> None:
    """Look every 20 ms; raise TimeoutError if it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not so within {timeout_s} s. What was started says why, above.")
        time.sleep(0.02)


def free_port() -> int:
    """Find a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_port(port: int, timeout_s: float = STARTUP_TIMEOUT_S) -> None:
    """Wait until somebody on this machine listens; raise TimeoutError if nobody does."""

    def is_open() -> bool:
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", port)) == 0

    wait_until(is_open, timeout_s)


# --- The report -----------------------------------------------------------------------------------


def report(
    work: Work,
    *,
    wall_s: float,
    startup_s: float,
    version: str,
    completed: int,
    seen: int | None = None,
    stored: int | None = None,
) -> int:
    """Print the figures as the last line of standard output; return the exit code.

    Args:
        work: What was asked for.
        wall_s: From just before the first submit until the driver had all it waits for.
        startup_s: From the start of the workers until the warm-up was done.
        version: Of the system.
        completed: Runs with the right answer.
        seen: Right messages that the driver saw live; None where nobody can watch.
        stored: Right messages found afterwards; None where the system stores none.
    """
    figures = {
        "wall_s": wall_s,
        "runs": work.runs,
        "rounds": work.rounds,
        "completed": completed,
        "messages_seen": seen or 0,
        "messages_stored": stored or 0,
        "version": version,
        "startup_s": startup_s,
    }
    print(json.dumps(figures), flush=True)
    is_whole = completed == work.runs and all(
        count is None or count == work.messages for count in (seen, stored)
    )
    return 0 if is_whole else 1
