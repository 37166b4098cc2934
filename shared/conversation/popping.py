"""Taking back the last message of a conversation."""

from collections.abc import Callable

from shared.conversation.protocol import ConversationStore
from shared.message import Message


def _any(_: Message) -> bool:
    return True


async def pop_message(
    store: ConversationStore,
    conversation_id: str,
    *,
    is_wanted: Callable[[Message], bool] = _any,
) -> Message | None:
    """Remove the newest readable message and return it; None where there is none.

    Messages that are not wanted stay where they are. Of several callers each gets another message.
    Not for a conversation that a run writes to.

    Raises:
        NewerVersionError: It is for newer readers. Nothing was removed.
        StoreUnavailableError: No answer. Repeating it may remove one more message.
    """
    before: str | None = None
    while True:
        newest = await store.list_messages(conversation_id, limit=1, before=before)
        if not newest:
            return None
        if not is_wanted(newest[0]):
            before = newest[0].cursor
        elif await store.remove(conversation_id, newest[0].cursor or ""):
            return newest[0]
