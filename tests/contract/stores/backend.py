"""The stores that come with a ledger: in memory, and in Redis."""

from uuid import uuid4

import pytest

from shared.backend import Backend
from shared.conversation.protocol import ConversationStore
from tests.contract.harness import ClusterHarness, Harness, MemoryHarness, RestrictedHarness
from tests.contract.stores.harness import StoreHarness
from tests.services import RedisServer
from tests.topologies.cluster import RedisCluster


class BackendStores:
    """The conversations of a backend."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._backends: dict[ConversationStore, Backend] = {}

    async def open(self) -> ConversationStore:
        return self._conversations_of(self._harness.open())

    async def open_elsewhere(self, store: ConversationStore) -> ConversationStore:
        return self._conversations_of(self._harness.open_elsewhere(self._backends[store]))

    async def damage(self, store: ConversationStore, conversation_id: str) -> None:
        await self._harness.damage(self._backends[store], conversation_id)

    async def aclose(self) -> None:
        await self._harness.aclose()

    def _conversations_of(self, backend: Backend) -> ConversationStore:
        self._backends[backend.conversations] = backend
        return backend.conversations


def open_memory(request: pytest.FixtureRequest) -> BackendStores:
    return BackendStores(MemoryHarness())


def open_redis(request: pytest.FixtureRequest) -> BackendStores:
    server: RedisServer = request.getfixturevalue("redis_server")
    return BackendStores(RestrictedHarness(server.url, key_prefix=f"test-{uuid4().hex}"))


def open_cluster(request: pytest.FixtureRequest) -> StoreHarness:
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    return BackendStores(ClusterHarness(cluster.url, key_prefix=f"test-{uuid4().hex}"))
