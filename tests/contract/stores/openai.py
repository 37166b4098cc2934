"""Contents at OpenAI, or rather at its stand-in; the index is in memory, or in a SQLite file.

Elsewhere is another store with a client of its own and, over the file, an index of its own.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.openai import OpenAIConversationStore
from shared.conversation.protocol import ConversationStore
from shared.conversation.sqlite import SqliteConversationStore
from shared.notification.memory import MemoryNotifications
from shared.testing.conversation.value import imported
from tests.contract.stores.harness import StoreHarness
from tests.openai_server.server import OpenAIServer


class OpenAIStores:
    """Stores over one server and one place for the index."""

    def __init__(self, open_index: Callable[[], ConversationStore]) -> None:
        self._server = OpenAIServer()
        self._server.__enter__()
        self._open_index = open_index
        self._clients: list[AsyncOpenAI] = []
        self._indexes: list[ConversationStore] = []

    async def open(self) -> ConversationStore:
        self._clients.append(self._server.client())
        self._indexes.append(self._open_index())
        return OpenAIConversationStore(self._clients[-1], self._indexes[-1])

    async def open_elsewhere(self, store: ConversationStore) -> ConversationStore:
        return await self.open()

    async def damage(self, store: ConversationStore, conversation_id: str) -> None:
        """Remove the content of a message at the provider, behind the store's back."""
        before = {item["id"] for item in self._server.keeping.items_of(conversation_id)}
        await store.append(conversation_id, [imported("lost")])
        for kept in self._server.keeping.conversations.values():
            if conversation_id in kept.metadata.values():
                for item_id in kept.items.keys() - before:
                    del kept.items[item_id]

    async def aclose(self) -> None:
        for client in self._clients:
            await client.close()
        for index in self._indexes:
            await index.aclose()
        self._server.__exit__(None, None, None)


def open_openai(request: pytest.FixtureRequest) -> StoreHarness:
    index = MemoryConversationStore(MemoryNotifications())
    return OpenAIStores(lambda: index)


def open_openai_sqlite(request: pytest.FixtureRequest) -> StoreHarness:
    folder: Path = request.getfixturevalue("tmp_path")
    return OpenAIStores(lambda: SqliteConversationStore(folder / "index.db"))
