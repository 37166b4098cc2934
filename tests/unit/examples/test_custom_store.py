"""The example of a store of one's own keeps the contract, run as its author runs it."""

from examples.custom_store.test_store import TestDbmConversationStore

__all__ = ["TestDbmConversationStore"]
