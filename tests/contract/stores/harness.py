"""What the conversation contract needs of a kind of store, besides the store."""

from typing import Protocol

from shared.conversation.protocol import ConversationStore


class StoreHarness(Protocol):
    """Opens stores over one new and empty place."""

    async def open(self) -> ConversationStore:
        """The first one. It is closed with the harness."""
        ...

    async def open_elsewhere(self, store: ConversationStore) -> ConversationStore:
        """The same conversations as another process sees them; `store` where there is none."""
        ...

    async def damage(self, store: ConversationStore, conversation_id: str) -> None:
        """Put an entry behind the last one that no reader understands."""
        ...

    async def aclose(self) -> None:
        """Close all that was opened, and leave nothing behind."""
        ...
