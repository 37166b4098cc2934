"""Watchers: each follows one run to its end and notes what it saw.

    python -m benchmarks.chaos.watching

This module as a program watches from another process: run ids come in, one a line with how to watch
it, and sightings go out, one a line of JSON. At the end of its input it waits for its runs' ends.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from agent_client import AsyncAgentClient, AsyncRun, StatusEvent
from benchmarks.chaos.evidence import Sighting
from benchmarks.chaos.plan import How
from benchmarks.system import REPOSITORY
from shared.errors import AgentsError
from shared.event import MessageEvent
from shared.log import configure_logging
from shared.run import RunStatus
from shared.settings import Settings

LEAVES_AFTER = 2
"""Messages after which a watcher that resumes leaves, to come back with its last cursor."""


@dataclass
class _Seen:
    """What a watcher has seen so far."""

    ids: list[str] = field(default_factory=list)
    final: RunStatus | None = None
    is_rolled_back: bool = False


async def watch(run: AsyncRun, how: How, *, who: str) -> Sighting:
    """Follow a run to its end."""
    seen, error = _Seen(), None
    follow = {"messages": _messages, "events": _events, "resuming": _resuming}[how]
    try:
        await follow(run, seen)
    except AgentsError as failure:
        error = f"{type(failure).__name__}: {failure}"
    except asyncio.CancelledError:
        error = "the run had not ended when the watcher was stopped"
    return Sighting(
        run.id,
        who=who,
        how=how,
        ids=tuple(seen.ids),
        final=seen.final,
        is_rolled_back=seen.is_rolled_back,
        error=error,
    )


async def _messages(run: AsyncRun, seen: _Seen) -> None:
    async for message in run.watch():
        seen.ids.append(message.id)


async def _events(run: AsyncRun, seen: _Seen) -> None:
    async for event in run.events():
        if isinstance(event, MessageEvent):
            seen.ids.append(event.message.id)
        elif isinstance(event, StatusEvent):
            seen.is_rolled_back |= event.rolled_back
            if event.status.is_final:
                seen.final = event.status


async def _resuming(run: AsyncRun, seen: _Seen) -> None:
    cursor: str | None = None
    has_ended = False
    while not has_ended:
        has_ended = True
        numbers = count(1)
        async with aclosing(run.watch(after=cursor)) as messages:
            async for message in messages:
                seen.ids.append(message.id)
                cursor = message.cursor
                if next(numbers) == LEAVES_AFTER:
                    has_ended = False
                    break


class Elsewhere:
    """The watching process: told which runs to watch, and asked for what it saw."""

    def __init__(self, environment: Mapping[str, str], log_path: Path) -> None:
        self._environment = environment
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        self._sightings: list[Sighting] = []
        self._told: dict[str, How] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process."""
        with self._log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "benchmarks.chaos.watching",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, **self._environment},
            )
        self._reading = asyncio.create_task(self._read(), name="sightings from elsewhere")

    def watch(self, run_id: str, how: How) -> None:
        """Have a run watched."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._told[run_id] = how
        self._process.stdin.write(f"{run_id} {how}\n".encode())

    async def finish(self, timeout_s: float) -> list[Sighting]:
        """Everything that was seen there; what was asked for and not seen is one that failed."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reading is not None
        self._process.stdin.close()
        await asyncio.wait({self._reading}, timeout=timeout_s)
        await self.aclose()
        await self._reading
        unseen = self._told.keys() - {sighting.run_id for sighting in self._sightings}
        lost = [
            Sighting(run_id, "elsewhere", self._told[run_id], (), error="its watch did not end")
            for run_id in unseen
        ]
        return self._sightings + lost

    async def aclose(self) -> None:
        """End the process, whatever it still waits for. Harmless if it has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            fields = json.loads(line)
            final = fields.pop("final")
            fields["ids"] = tuple(fields["ids"])
            self._sightings.append(Sighting(**fields, final=final and RunStatus(final)))


async def _watch_what_is_asked_for() -> None:
    configure_logging(Settings())  # to standard error: what is seen goes to standard output
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with AsyncAgentClient(Settings()) as client, asyncio.TaskGroup() as group:
        async for line in reader:
            run_id, how = line.decode().split()
            assert how in {"messages", "events", "resuming"}
            group.create_task(_watch_and_tell(client.run(run_id), how))  # type: ignore[arg-type]


async def _watch_and_tell(run: AsyncRun, how: How) -> None:
    sighting = await watch(run, how, who="elsewhere")
    sys.stdout.write(json.dumps(asdict(sighting)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_watch_what_is_asked_for())
