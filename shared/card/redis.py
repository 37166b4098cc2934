"""Cards in Redis: one string for each agent."""

from redis.asyncio import Redis

from shared.byte_seal import Seal, closed, opened
from shared.card.protocol import KEPT_S
from shared.card.value import AgentCard
from shared.codec import decode, encode
from shared.identifier import check_id
from shared.redis_client import translated_errors
from shared.redis_keys import Keys


class RedisAgentCards:
    """See `AgentCards`. With a `seal`, what they say cannot be read in Redis."""

    def __init__(self, client: Redis, keys: Keys, *, seal: Seal | None = None) -> None:
        self._client = client
        self._keys = keys
        self._seal = seal

    async def put(self, card: AgentCard) -> None:
        """Keep a card; see `AgentCards.put`."""
        stored = closed(encode(card).encode(), self._seal, f"card:{card.agent}")
        with translated_errors():
            await self._client.set(self._keys.card(card.agent), stored, px=int(KEPT_S * 1000))

    async def find(self, agent: str) -> AgentCard | None:
        """The card of an agent; see `AgentCards.find`."""
        with translated_errors():
            stored = await self._client.get(self._keys.card(check_id(agent, "agent name")))
        if stored is None:
            return None
        where = f"The card of agent {agent}"
        body = str(stored).encode("utf-8", "surrogateescape")
        return decode(
            AgentCard, opened(body, self._seal, f"card:{agent}", where=where), where=where
        )
