"""What every `ConversationStore` guarantees, as tests to run over an implementation of one's own.

A test module subclasses the contract and says in a fixture what it is about::

    from shared.testing.conversation import ConversationContract


    class TestMyStore(ConversationContract):
        @pytest.fixture
        async def store(self) -> AsyncIterator[ConversationStore]:
            store = MyStore(...)
            yield store
            await store.aclose()

The tests are coroutines, for pytest-asyncio in its auto mode, and use hypothesis. With the plugin
`shared.testing.plugin` come two more fixtures to override: `elsewhere` and `damage`.
"""

from shared.testing.conversation.reading import ConversationReadingContract
from shared.testing.conversation.removal import ConversationRemovalContract
from shared.testing.conversation.writing import ConversationWritingContract

__all__ = [
    "ConversationContract",
    "ConversationReadingContract",
    "ConversationRemovalContract",
    "ConversationWritingContract",
]


class ConversationContract(
    ConversationWritingContract, ConversationReadingContract, ConversationRemovalContract
):
    """All of it."""
