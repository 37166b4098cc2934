"""What a server's own settings make unsafe: a look at them when a worker starts."""

from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis_cluster import Cluster
from shared.risk import Risk

log = structlog.get_logger()

NO_APPEND_ONLY_FILE: Final = Risk(
    "no_append_only_file",
    "A restart of Redis forgets runs and messages; set appendonly yes.",
)
EVICTION: Final = Risk(
    "eviction",
    "When Redis is full it forgets runs or messages; set maxmemory-policy noeviction.",
)


async def find_risks(client: Redis) -> list[Risk]:
    """What is unsafe about the server, or about one of the nodes of a cluster.

    Nothing, where this user may not ask for it, or the server does not tell.
    """
    try:
        nodes = await _ask(client)
    except (RedisError, OSError) as error:
        log.debug("store.unchecked", error=type(error).__name__, reason=str(error))
        return []
    risks = []
    if any(str(node.get("aof_enabled", 1)) == "0" for node in nodes):
        risks.append(NO_APPEND_ONLY_FILE)
    if any(node.get("maxmemory_policy", "noeviction") != "noeviction" for node in nodes):
        risks.append(EVICTION)
    return risks


async def _ask(client: Redis) -> list[dict[str, Any]]:
    if isinstance(client, Cluster):
        return list(await client.ask_all("INFO"))
    return [await client.info()]
