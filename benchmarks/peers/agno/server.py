"""AgentOS with one agent; uvicorn serves `app`."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import _work
from agno.agent import Agent
from agno.db.postgres import AsyncPostgresDb
from agno.job_queue.config import RedisCoordination
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.os import AgentOS, QueueConfig
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

ROUNDS = int(os.environ["PEER_ROUNDS"])
LATENCY_S = float(os.environ["PEER_LATENCY_S"])
AT_ONCE = int(os.environ["PEER_AT_ONCE"])
"""Runs in flight in this process."""
IS_DURABLE = os.environ["PEER_VARIANT"] == "durable"


@dataclass
class Stub(Model):
    """Stands in for a model."""

    id: str = "stub"

    async def ainvoke(self, messages: list[Message], **_: Any) -> ModelResponse:
        await asyncio.sleep(LATENCY_S)
        asked = next(str(message.content) for message in messages if message.role == "user")
        run = int(asked.removeprefix("Question ").partition(":")[0])
        number = sum(message.role == "assistant" for message in messages) + 1
        said = _work.answer(run) if number == ROUNDS else _work.call(run, number)
        return ModelResponse(**said)

    async def ainvoke_stream(
        self, messages: list[Message], **others: Any
    ) -> AsyncIterator[ModelResponse]:
        yield await self.ainvoke(messages, **others)

    def invoke(self, *_: Any, **__: Any) -> ModelResponse:
        raise NotImplementedError

    def invoke_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def _parse_provider_response(self, response: Any, **_: Any) -> ModelResponse:
        raise NotImplementedError

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        raise NotImplementedError


async def look_up(run: int, number: int) -> str:
    """Look something up."""
    return _work.look_up(run, number)


database = AsyncPostgresDb(
    db_url=os.environ["POSTGRES_URL"].replace("postgresql://", "postgresql+psycopg_async://", 1)
)
agent = Agent(
    id="shop",
    model=Stub(),
    tools=[look_up],
    db=database,
    checkpoint="tool-batch" if IS_DURABLE else None,
    telemetry=False,
)
connections = {"url": os.environ["REDIS_URL"], "max_connections": 4 * AT_ONCE + 100}
"""Each caller who reads events holds one."""
coordination = RedisCoordination(
    sync_client=Redis.from_url(**connections), async_client=AsyncRedis.from_url(**connections)
)
queue = QueueConfig(durable=True, max_concurrency=AT_ONCE, redis=coordination)
app = AgentOS(
    agents=[agent], db=database, queue=queue if IS_DURABLE else None, telemetry=False
).get_app()
