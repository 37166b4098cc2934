"""The agent as a Celery task: plain blocking code, for threads, greenlets and processes alike."""

import json
import os
import time
from typing import Any

from _work import (
    WORKERS_READY,
    Message,
    answer,
    call,
    conversation_of,
    final,
    input_of,
    result,
)
from celery import Celery
from celery.signals import worker_ready
from redis import BlockingConnectionPool, Redis

REDIS_URL = os.environ["REDIS_URL"]

app = Celery("tasks", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(
    worker_prefetch_multiplier=1,  # as the documentation asks for long tasks
    result_backend_thread_safe=True,  # one pool of connections, not one for each thread
    redis_max_connections=1000,  # without it the pool has 100, and an error for the next
)
redis = Redis.from_pool(BlockingConnectionPool.from_url(REDIS_URL))


@worker_ready.connect
def count_worker(**_: Any) -> None:
    """Tell the runner that one more worker takes tasks."""
    redis.incr(WORKERS_READY)


@app.task
def run_agent(run: int, rounds: int, latency_s: float) -> str:
    """Do all rounds of a run, store each message; return the answer."""

    def store(message: Message) -> None:
        redis.rpush(conversation_of(run), json.dumps(message))

    store(input_of(run))
    for number in range(1, rounds):
        time.sleep(latency_s)
        store(call(run, number))
        store(result(run, number))
    time.sleep(latency_s)
    store(answer(run))
    return final(run)
