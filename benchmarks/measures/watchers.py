"""What ten thousand watchers in one process take: connections, time until they see, CPU."""

import asyncio
import itertools
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from agent_client import AsyncAgentClient, Message
from benchmarks.quantile import latency_ms
from benchmarks.suite.measured import Bars, Measured, Row
from benchmarks.suite.stage import Stage
from benchmarks.system import REPOSITORY
from benchmarks.watching_process import SENT_AT
from shared.embedded_redis import EmbeddedRedis
from shared.identifier import PARTITIONS, history_id, new_run_id
from shared.message import user_draft
from shared.run import NewRun
from shared.settings import Settings

NAME: Final = "watchers"
TITLE: Final = "Ten thousand watchers in one process"

_NAME_AT_REDIS: Final = "watchers"
_TEXT: Final = "The hotel by the station has three rooms left, each of them with breakfast. " * 3
_AT_ONCE: Final = 50
_LINE_BYTES: Final = 2**24
_EXPLANATION: Final = """
One client process watches, with `run.watch()`. Another process appends messages at a steady rate,
to one run after the other in random order; no worker takes part. A message is seen by all who
watch its run. Latency is from just before the append until a watcher has the message in its hands,
over all watchers and messages; CPU share is that of the watching process, 1 being a whole core.
Connections are those that Redis says the process has, all that were opened since it started. The
goal is 4 connections at most, and 100 ms for 99 of 100.
"""


@dataclass(frozen=True)
class Spread:
    """How watchers are spread over runs, and how much happens in these."""

    runs: int
    watchers_each: int
    messages_per_s: float

    def __str__(self) -> str:
        return f"{self.watchers_each:,} on each of {self.runs:,} runs"


SPREADS: Final = (Spread(10_000, 1, 500.0), Spread(1_000, 10, 50.0))
"""As many messages are seen a second in each of them."""


def measure(stage: Stage) -> Measured:
    """Each spread with a Redis and a process of its own."""
    spreads = stage.choose(SPREADS, quick=(Spread(10, 10, 20.0),))
    seconds = stage.choose(10.0, quick=1.0)
    rows = []
    for spread in stage.track(spreads):
        with stage.redis() as redis:
            rows.append(asyncio.run(_measure(redis, spread, seconds, stage.new_folder())))
    plot = Bars("From append to seen, 99 of 100", "p99_ms", "ms")
    return Measured(tuple(rows), plots=(plot,), explanation=_EXPLANATION.strip())


async def _measure(redis: EmbeddedRedis, spread: Spread, seconds: float, folder: Path) -> Row:
    settings = Settings.model_validate({"redis_url": redis.url})
    messages = round(seconds * spread.messages_per_s)
    async with (
        AsyncAgentClient(settings) as client,
        Redis.from_url(redis.url, decode_responses=True) as inspector,
        _watching_process(redis, folder / "watching.log") as watching,
    ):
        run_ids = await _make_runs(client, spread.runs)
        started = await watching.ask([run_ids, spread.watchers_each])
        await watching.ask("count from here")
        took_s = await _append_steadily(client, run_ids, messages, spread.messages_per_s)
        seen = await watching.ask(messages * spread.watchers_each)
        clients = await inspector.client_list()
    figures = {
        "connections": sum(each["name"] == _NAME_AT_REDIS for each in clients),
        **latency_ms(seen["latencies_s"]),
        "cpu_share": seen["cpu_share"],
        "start_s": started["start_s"],
        "appended_per_s": messages / took_s,
    }
    conditions = {
        "watchers": spread.runs * spread.watchers_each,
        "runs": spread.runs,
        "watchers_each": spread.watchers_each,
        "seen": len(seen["latencies_s"]),
    }
    return Row("run.watch()", conditions, figures)


class _WatchingProcess:
    """`benchmarks.watching_process`, asked line by line."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def ask(self, question: object) -> dict[str, Any]:
        """Send a line, and wait for the one that answers it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The watching process ended: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def _watching_process(redis: EmbeddedRedis, log: Path) -> AsyncIterator[_WatchingProcess]:
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "benchmarks.watching_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=REPOSITORY,
            env={**os.environ, "AGENTS_REDIS_URL": f"{redis.url}?client_name={_NAME_AT_REDIS}"},
            limit=_LINE_BYTES,
        )
    try:
        yield _WatchingProcess(process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _make_runs(client: AsyncAgentClient, count: int) -> list[str]:
    """Runs that nobody executes, each with its first message."""

    async def make(number: int) -> str:
        new = NewRun(id=new_run_id(number % PARTITIONS), agent="nobody", input=_TEXT)
        await client.backend.ledger.submit(new)
        await _append(client, new.id, 0, metadata={})
        return new.id

    run_ids: list[str] = []
    for start in range(0, count, _AT_ONCE):
        numbers = range(start, min(count, start + _AT_ONCE))
        run_ids += await asyncio.gather(*map(make, numbers))
    return run_ids


async def _append_steadily(
    client: AsyncAgentClient, run_ids: Sequence[str], messages: int, per_s: float
) -> float:
    """Append so many messages; return the seconds that took."""
    order = [*run_ids]
    random.Random(7).shuffle(order)  # noqa: S311  the same order each time, no secret
    started = time.monotonic()
    for number, run_id in zip(range(messages), itertools.cycle(order), strict=False):
        await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
        position = 1 + number // len(order)
        await _append(client, run_id, position, metadata={SENT_AT: time.monotonic()})
    return max(time.monotonic() - started, messages / per_s)


async def _append(
    client: AsyncAgentClient, run_id: str, position: int, *, metadata: dict[str, float]
) -> None:
    draft = user_draft(_TEXT).model_copy(update={"metadata": metadata})
    message = Message.from_draft(draft, run_id=run_id, position=position)
    await client.conversation_store.append(history_id(run_id, None), [message])
