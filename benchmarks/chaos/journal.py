"""The journal: what tools and models did, in a file outside of everything that is being tested.

One line for each start and each end, written with one system call, so that a kill in between leaves
whole lines and every process may write.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

PATH: Final = "CHAOS_JOURNAL"
"""Environment variable: the file that the workers write to."""

What = Literal["tool", "model"]


@dataclass(frozen=True)
class Execution:
    """One execution of a tool or one model call. Times are this machine's, in seconds."""

    what: What
    run_id: str
    key: str
    """Of a tool call its idempotency key, of a model call ``<run id>.<round>``."""
    attempt: int
    pid: int
    started_at: float
    ended_at: float | None = None
    """None: it was cut off, or cancelled."""


@contextmanager
def journaled(what: What, run_id: str, key: str, attempt: int) -> Iterator[None]:
    """Write that something starts, and that it has ended unless it is cut off."""
    entry = {"what": what, "run": run_id, "key": key, "attempt": attempt, "pid": os.getpid()}
    _write({**entry, "event": "start", "at": time.time()})
    yield
    _write({**entry, "event": "end", "at": time.time()})


def read_journal(path: Path) -> list[Execution]:
    """All executions, by the time of their start. Ends belong to the oldest start without one."""
    starts: list[dict[str, object]] = []
    ends: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        if entry["event"] == "start":
            starts.append(entry)
        else:
            ends[_identity(entry)].append(float(entry["at"]))
    executions = []
    for entry in sorted(starts, key=lambda each: float(str(each["at"]))):
        ended = ends[_identity(entry)]
        executions.append(
            Execution(
                what="tool" if entry["what"] == "tool" else "model",
                run_id=str(entry["run"]),
                key=str(entry["key"]),
                attempt=int(str(entry["attempt"])),
                pid=int(str(entry["pid"])),
                started_at=float(str(entry["at"])),
                ended_at=ended.pop(0) if ended else None,
            )
        )
    return executions


def _identity(entry: dict[str, object]) -> tuple[object, ...]:
    return tuple(entry[name] for name in ("what", "key", "attempt", "pid"))


def _write(entry: dict[str, object]) -> None:
    os.write(_file(), (json.dumps(entry) + "\n").encode())


@cache
def _file() -> int:
    return os.open(os.environ[PATH], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
