"""A client process that does nothing but watch runs, for `benchmarks.measures.watchers`.

    python -m benchmarks.watching_process

Reads lines of JSON from stdin: the ids of the runs, and how many watch each of them; when it is to
begin to count, anything; then how many messages are to be seen. Answers each with such a line, and
waits to be ended.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from agent_client import AsyncAgentClient

SENT_AT: Final = "sent_at"
"""In a message's metadata: when it was about to be appended, by the clock of this machine that all
its processes share (`time.monotonic`)."""
AT_ONCE: Final = 200
"""Watchers that begin at the same time."""


class Audience:
    """All watchers, and what they see."""

    def __init__(self, client: AsyncAgentClient) -> None:
        self._client = client
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: list[asyncio.Task[None]] = []
        self._watching = 0
        self.latencies_s: list[float] = []

    async def let_in(self, run_ids: Sequence[str]) -> None:
        """Watch each of these runs once, and wait until all have seen the message that is there.

        From then on they listen.
        """
        for run_id in run_ids:
            task = asyncio.create_task(self._watch(run_id))
            task.add_done_callback(self._on_end)
            self._tasks.append(task)
        while self._watching < len(self._tasks):
            await self._change()

    async def wait_seen(self, count: int) -> None:
        """Wait until so many further messages were seen, by all of them together."""
        while len(self.latencies_s) < count:
            await self._change()

    async def _watch(self, run_id: str) -> None:
        async for message in self._client.run(run_id).watch():
            sent_at = message.metadata.get(SENT_AT)
            if isinstance(sent_at, float):
                self.latencies_s.append(time.monotonic() - sent_at)
            else:
                self._watching += 1
            self._changed.set()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._ended.append(task)
        self._changed.set()

    async def _change(self) -> None:
        """Wait until anything was seen."""
        self._changed.clear()
        await self._changed.wait()
        for task in self._ended:
            raise RuntimeError("A watcher ended before its run.") from task.exception()


async def _hear() -> Any:
    return json.loads(await asyncio.to_thread(sys.stdin.readline))


def _tell(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Watch until everything is seen."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    run_ids, each = await _hear()
    async with AsyncAgentClient() as client:
        started = time.perf_counter()
        audience = Audience(client)
        wanted = [run_id for run_id in run_ids for _ in range(each)]
        for place in range(0, len(wanted), AT_ONCE):
            await audience.let_in(wanted[place : place + AT_ONCE])
        _tell({"start_s": time.perf_counter() - started})
        await _hear()
        started, busy = time.perf_counter(), time.process_time()
        _tell({})
        await audience.wait_seen(await _hear())
        cpu_share = (time.process_time() - busy) / (time.perf_counter() - started)
        _tell({"cpu_share": cpu_share, "latencies_s": audience.latencies_s})
        await _hear()  # nothing comes: whoever started it ends it


if __name__ == "__main__":
    asyncio.run(main())
