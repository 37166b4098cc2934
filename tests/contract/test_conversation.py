"""The conversation contract, over every implementation."""

from tests.contract.conversation import ConversationRemovalContract, ConversationWritingContract
from tests.contract.conversation_reading import ConversationReadingContract


class TestWriting(ConversationWritingContract):
    """See `ConversationWritingContract`."""


class TestRemoval(ConversationRemovalContract):
    """See `ConversationRemovalContract`."""


class TestReading(ConversationReadingContract):
    """See `ConversationReadingContract`."""
