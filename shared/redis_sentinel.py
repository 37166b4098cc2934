"""The primary that sentinels name."""

from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary; where none is free, one is waited for.

    After a failover each connection that breaks, or that finds itself at a replica, asks the
    sentinels again.
    """

    def __init__(self, primary: str, sentinels: Sentinel, **options: Any) -> None:
        super().__init__(primary, sentinels, **options)  # type: ignore[no-untyped-call]
        self._sentinels = sentinels

    async def aclose(self) -> None:
        """Close the connections to the sentinels as well, which are this pool's own."""
        await super().aclose()
        await self._sentinels.aclose()
