"""The agent as a SAQ job: a coroutine on the worker's loop."""

import json
import os
from typing import Any

from _work import WORKERS_READY, agent, conversation_of, final
from redis.asyncio import BlockingConnectionPool, Redis
from saq import Queue

REDIS_URL = os.environ["REDIS_URL"]
CONCURRENCY = "CONCURRENCY"
"""Environment variable: how many runs a worker takes at once."""

redis = Redis.from_pool(BlockingConnectionPool.from_url(REDIS_URL))


async def count_worker(_: dict[str, Any]) -> None:
    """Tell the runner that one more worker takes jobs."""
    await redis.incr(WORKERS_READY)


async def run_agent(_: dict[str, Any], *, run: int, rounds: int, latency_s: float) -> str:
    """Do all rounds of a run, store each message; return the answer."""
    async for message in agent(run, rounds, latency_s):
        await redis.rpush(conversation_of(run), json.dumps(message))
    return final(run)


def settings() -> dict[str, Any]:
    """What the worker is started with."""
    return {
        "queue": Queue.from_url(REDIS_URL),
        "functions": [run_agent],
        "concurrency": int(os.environ[CONCURRENCY]),
        "startup": count_worker,
    }
