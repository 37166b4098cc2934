"""Taking back the last message of a conversation."""

from shared.conversation.protocol import ConversationStore
from shared.message import Message


async def pop_message(store: ConversationStore, conversation_id: str) -> Message | None:
    """Remove the newest readable message and return it; None where there is none.

    Of several callers each gets another message. Not for a conversation that a run writes to.

    Raises:
        NewerVersionError: It is for newer readers. Nothing was removed.
        StoreUnavailableError: No answer. Repeating it may remove one more message.
    """
    while True:
        newest = await store.list_messages(conversation_id, limit=1)
        if not newest:
            return None
        if await store.remove(conversation_id, newest[0].cursor or ""):
            return newest[0]
