"""The agent as a taskiq task: a coroutine on the worker's loop."""

import json
import os

from _work import WORKERS_READY, agent, conversation_of, final
from redis.asyncio import BlockingConnectionPool, Redis
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

REDIS_URL = os.environ["REDIS_URL"]
RESULT_TTL_S = 3600
"""The documentation recommends that results expire."""

broker = RedisStreamBroker(REDIS_URL).with_result_backend(
    RedisAsyncResultBackend(REDIS_URL, result_ex_time=RESULT_TTL_S)
)
redis = Redis.from_pool(BlockingConnectionPool.from_url(REDIS_URL))


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def count_worker(_: TaskiqState) -> None:
    """Tell the runner that one more worker takes tasks."""
    await redis.incr(WORKERS_READY)


@broker.task
async def run_agent(run: int, rounds: int, latency_s: float) -> str:
    """Do all rounds of a run, store each message; return the answer."""
    async for message in agent(run, rounds, latency_s):
        await redis.rpush(conversation_of(run), json.dumps(message))
    return final(run)
