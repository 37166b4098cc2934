"""The stores of a backend, wrapped: compressed, encrypted, and both."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import pytest

from shared.conversation.protocol import ConversationStore
from shared.encryption_key import EncryptionKey
from shared.message import Message
from shared.sealing.compressed import CompressedConversations
from shared.sealing.compression import ZSTD, compress
from shared.sealing.encrypted import EncryptedConversations
from shared.sealing.guard import GuardedConversations
from shared.sealing.key_ring import KeyRing
from shared.sealing.message_body import body_of, shell_of, with_seal
from shared.sealing.repack import as_sealed
from shared.sealing.wrapper import innermost
from tests.contract.stores.backend import BackendStores, open_memory, open_redis
from tests.contract.stores.harness import StoreHarness

Open = Callable[[pytest.FixtureRequest], StoreHarness]
Wrap = Callable[[ConversationStore], ConversationStore]

KEY_RING: Final = KeyRing([EncryptionKey("test", bytes(range(32)))])
MAX_BYTES: Final = 1_000_000


class EagerlyCompressed(CompressedConversations):
    """Compresses short messages as well, of which the contract's messages are most."""

    def _seal(self, _conversation_id: str, message: Message, /) -> Message:
        return with_seal(shell_of(message), as_sealed([ZSTD], compress(body_of(message))))


def _compressed(store: ConversationStore) -> ConversationStore:
    return GuardedConversations(EagerlyCompressed(store, max_bytes=MAX_BYTES))


def _encrypted(store: ConversationStore) -> ConversationStore:
    return GuardedConversations(EncryptedConversations(store, KEY_RING))


def _both(store: ConversationStore) -> ConversationStore:
    encrypted = EncryptedConversations(store, KEY_RING)
    return GuardedConversations(EagerlyCompressed(encrypted, max_bytes=MAX_BYTES))


class WrappedStores:
    """The same stores, each in wrappers of its own."""

    def __init__(self, stores: BackendStores, wrap: Wrap) -> None:
        self._stores = stores
        self._wrap = wrap
        self._below: dict[ConversationStore, ConversationStore] = {}

    async def open(self) -> ConversationStore:
        return self._wrapped(await self._stores.open())

    async def open_elsewhere(self, store: ConversationStore) -> ConversationStore:
        return self._wrapped(await self._stores.open_elsewhere(self._below[store]))

    async def damage(self, store: ConversationStore, conversation_id: str) -> None:
        await self._stores.damage(self._below[store], conversation_id)

    async def aclose(self) -> None:
        await self._stores.aclose()

    def _wrapped(self, below: ConversationStore) -> ConversationStore:
        store = self._wrap(innermost(below))
        self._below[store] = below
        return store


def _opener(open_below: Callable[[pytest.FixtureRequest], BackendStores], wrap: Wrap) -> Open:
    return lambda request: WrappedStores(open_below(request), wrap)


WRAPPED: Final[Mapping[str, tuple[Open, bool]]] = MappingProxyType(
    {
        f"{below}-{name}": (_opener(open_below, wrap), below != "memory")
        for below, open_below in (("memory", open_memory), ("redis", open_redis))
        for name, wrap in (("zstd", _compressed), ("aes", _encrypted), ("zstd-aes", _both))
    }
)
"""How each is opened, and whether it needs a server."""
