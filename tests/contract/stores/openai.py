"""Conversations at OpenAI, or rather at its stand-in, with an index in memory."""

from typing import Any

import pytest
from openai import AsyncOpenAI

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.openai import OpenAIConversationStore
from shared.conversation.protocol import ConversationStore
from shared.notification.memory import MemoryNotifications
from shared.testing.conversation.value import imported
from tests.contract.stores.harness import StoreHarness
from tests.openai_server.server import OpenAIServer


class OpenAIStores:
    """Stores with a client each, over one index and one server."""

    def __init__(self, server: OpenAIServer, index: ConversationStore) -> None:
        self._server = server
        self._index = index
        self._clients: list[AsyncOpenAI] = []

    async def open(self) -> ConversationStore:
        client = self._server.client()
        self._clients.append(client)
        return OpenAIConversationStore(client, self._index)

    async def open_elsewhere(self, store: ConversationStore) -> ConversationStore:
        return await self.open()

    async def damage(self, store: ConversationStore, conversation_id: str) -> None:
        """Remove the content of a message at the provider, behind the store's back."""
        before = {item["id"] for item in self._server.keeping.items_of(conversation_id)}
        await store.append(conversation_id, [imported("lost")])
        for kept in self._server.keeping.conversations.values():
            for item_id in kept.items.keys() - before:
                if conversation_id in kept.metadata.values():
                    del kept.items[item_id]

    async def aclose(self) -> None:
        for client in self._clients:
            await client.close()
        self._server.__exit__(None, None, None)


def open_openai(request: pytest.FixtureRequest) -> StoreHarness:
    server = OpenAIServer()
    server.__enter__()
    index: Any = MemoryConversationStore(MemoryNotifications())
    return OpenAIStores(server, index)
