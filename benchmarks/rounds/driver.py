"""The driver: submits all runs at once and watches every one of them, in a process of its own.

    python -m benchmarks.rounds.driver {plain,stub,http} --runs N --rounds R --latency-s L
                                       --worker-pid PID [--worker-pid PID ...]

Finds the system through its settings in the environment. The clock starts right before the first
submit and stops when the driver has the outcome of the last run and all of its messages. Then each
history is read and counted. Prints JSON.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Final
from uuid import uuid4

import uvloop
from redis.asyncio import Redis

from agent_client import AsyncAgentClient
from benchmarks.rounds.work import ANSWER, QUESTION, Work, add_arguments, work_of
from benchmarks.suite.cpu import process_cpu_s, redis_cpu_s
from shared.settings import Settings

RESULT_TIMEOUT_S: Final = 120.0


class Driver:
    """One client, and whose time is taken."""

    def __init__(self, client: AsyncAgentClient, redis: Redis, workers: Sequence[int]) -> None:
        self._client = client
        self._redis = redis
        self._workers = workers

    async def measure(self, engine: str, work: Work) -> dict[str, float]:
        """Do the work; seconds of wall time and of CPU time.

        Raises:
            AssertionError: A run gave no answer or a wrong one, or a message was not seen or not
                stored.
        """
        before = await self._cpu_s()
        started = time.perf_counter()
        conversations = await asyncio.gather(*(self._run(engine, work) for _ in range(work.runs)))
        wall = time.perf_counter() - started
        after = await self._cpu_s()
        histories = await asyncio.gather(*map(self._client.history, conversations))
        assert {len(messages) for messages in histories} == {work.messages}
        return {"wall_s": wall, **{name: after[name] - before[name] for name in before}}

    async def _run(self, engine: str, work: Work) -> str:
        """One run, from its submit to its outcome; returns its conversation."""
        conversation = f"rounds:{uuid4().hex}"
        run = await self._client.submit(
            engine, QUESTION, conversation_id=conversation, metadata=work.as_metadata()
        )
        seen = 0
        async for _ in run.watch():
            seen += 1
        outcome = await run.result(timeout_s=RESULT_TIMEOUT_S)
        assert outcome.raise_for_status().output == ANSWER, run.id
        assert seen == work.messages, run.id
        return conversation

    async def _cpu_s(self) -> dict[str, float]:
        return {
            "driver_cpu_s": time.process_time(),
            "worker_cpu_s": sum(map(process_cpu_s, self._workers)),
            "redis_cpu_s": await redis_cpu_s(self._redis),
        }


async def drive(engine: str, work: Work, workers: Sequence[int]) -> dict[str, float]:
    """A few runs that are not counted, then the work."""
    settings = Settings()
    redis = Redis.from_url(settings.effective_redis_url)
    async with AsyncAgentClient(settings) as client, redis:
        driver = Driver(client, redis, workers)
        await driver.measure(engine, Work(min(work.runs, 20 * len(workers)), 2, 0.0))
        return await driver.measure(engine, work)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounds.driver")
    parser.add_argument("engine", choices=("plain", "stub", "http"))
    parser.add_argument("--worker-pid", type=int, action="append", required=True)
    add_arguments(parser)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(drive(options.engine, work_of(options), options.worker_pid))
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
