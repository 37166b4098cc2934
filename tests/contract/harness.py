"""What the contract suites need of an implementation, and the values that they work with."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from redis.asyncio import Redis, RedisCluster

from shared.backend import Backend
from shared.conversation.memory import MemoryConversationStore
from shared.memory_backend import build_memory_backend
from shared.redis_backend import build_redis_backend
from shared.sealing.wrapper import innermost
from shared.settings import Settings
from tests.topologies.users import User

SHORT_TIMES: Final[dict[str, Any]] = {"lease_s": 0.6, "heartbeat_s": 0.1, "pickup_s": 0.2}
"""So that what depends on time is seen within a second."""


SEALED: Final[dict[str, Any]] = {
    "encryption_keys": f"new:{'0123456789abcdef' * 4},old:{'fedcba9876543210' * 4}",
    "compression": "zstd",
}
"""Everything encrypted, messages compressed."""


class Harness(Protocol):
    """Opens backends of one implementation over one store."""

    def open(self, **settings: Any) -> Backend:
        """A backend with these settings besides the short times. It is closed with the harness."""
        ...

    def open_elsewhere(self, backend: Backend) -> Backend:
        """The store of `backend` over connections of its own, where that makes a difference."""
        ...

    async def damage(self, backend: Backend, conversation_id: str) -> None:
        """Put an entry behind the last one that no reader understands."""
        ...

    async def aclose(self) -> None:
        """Close all that was opened, and leave nothing in the store."""
        ...


class MemoryHarness:
    """Each backend is a store of its own. `always` is in the settings of each."""

    def __init__(self, always: Mapping[str, Any] | None = None) -> None:
        self._always = dict(always or {})
        self._opened: list[Backend] = []

    def open(self, **settings: Any) -> Backend:
        backend = build_memory_backend(Settings(**SHORT_TIMES | self._always | settings))
        self._opened.append(backend)
        return backend

    def open_elsewhere(self, backend: Backend) -> Backend:
        return backend

    async def damage(self, backend: Backend, conversation_id: str) -> None:
        store = innermost(backend.conversations)
        assert isinstance(store, MemoryConversationStore)
        log = store._open(conversation_id)
        log.entries.append(replace(log.entries[-1], number=next(store._numbers), stored="{"))

    async def aclose(self) -> None:
        for backend in self._opened:
            await backend.aclose()


class RedisHarness:
    """All backends see the keys under one prefix, which is nobody else's.

    `always` is in the settings of each: user and password, say.
    """

    def __init__(
        self, url: str, key_prefix: str, *, always: Mapping[str, Any] | None = None
    ) -> None:
        self._url = url
        self._always = dict(always or {})
        self.key_prefix = key_prefix
        self._opened: list[Backend] = []

    def open(self, **settings: Any) -> Backend:
        own = {
            "redis_url": self._url,
            "broker_url": "amqp://nobody.is.rung",
            "key_prefix": self.key_prefix,
        }
        backend = build_redis_backend(Settings(**SHORT_TIMES | own | self._always | settings))
        self._opened.append(backend)
        return backend

    def open_elsewhere(self, backend: Backend) -> Backend:
        return self.open()

    async def damage(self, backend: Backend, conversation_id: str) -> None:
        """Repeat the last entry with bytes that are neither JSON nor UTF-8 in each field."""
        async with self._connect() as client:
            key = await self._find_stream(client, conversation_id)
            last: Any = await client.xrevrange(key, count=1)
            fields = last[0][1]
            await client.xadd(key, dict.fromkeys(fields, b"\xff\xfe{"))

    async def aclose(self) -> None:
        for backend in self._opened:
            await backend.aclose()
        async with self._connect() as client:
            async for key in client.scan_iter(match=f"*{self.key_prefix}*", count=1000):
                await client.delete(key)

    def _connect(self) -> Any:
        return Redis.from_url(self._url)

    async def _find_stream(self, client: Any, conversation_id: str) -> bytes:
        pattern = f"*{self.key_prefix}*{conversation_id}"
        keys = [key async for key in client.scan_iter(match=pattern, _type="stream")]
        assert len(keys) == 1
        return bytes(keys[0])


class RestrictedHarness(RedisHarness):
    """The same as a user with the documented rights, so that they are enough for everything."""

    def __init__(
        self, url: str, key_prefix: str, *, always: Mapping[str, Any] | None = None
    ) -> None:
        self._user = User(url, key_prefix)
        super().__init__(url, key_prefix, always={**self._user.settings, **(always or {})})

    async def aclose(self) -> None:
        await super().aclose()
        self._user.delete()


class ClusterHarness(RedisHarness):
    """The same over a cluster, where each partition may lie on another node."""

    def _connect(self) -> Any:
        return RedisCluster.from_url(self._url.replace("redis+cluster", "redis").split(",")[0])
