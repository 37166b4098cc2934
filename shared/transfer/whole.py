"""Reading a conversation as a whole, and saying what is missing of it."""

from dataclasses import dataclass

from shared.conversation.protocol import ConversationStore
from shared.errors import UnknownConversationError, UnreadableEntriesError
from shared.message import Message


@dataclass(frozen=True, slots=True)
class Whole:
    """A conversation's messages, oldest first, and how many entries of it cannot be read."""

    messages: tuple[Message, ...]
    unreadable: int


async def read_whole(
    store: ConversationStore, conversation_id: str, *, may_lose: bool = False
) -> Whole:
    """All messages of a conversation, at once in memory.

    Raises:
        UnknownConversationError: It holds no message.
        UnreadableEntriesError: Entries cannot be read, and `may_lose` is not set.
        NewerVersionError: A message is for newer readers.
        StoreUnavailableError: No answer.
    """
    counted = await store.count(conversation_id)
    messages = await store.list_messages(conversation_id)
    if not counted and not messages:
        raise UnknownConversationError(f"There is no message in conversation {conversation_id}.")
    unreadable = max(0, counted - len(messages))
    if unreadable and not may_lose:
        raise UnreadableEntriesError(
            f"{unreadable} entries of conversation {conversation_id} cannot be read, and would be "
            "missing. Repair them, or say that they may be left out.",
            unreadable,
        )
    return Whole(tuple(messages), unreadable)
