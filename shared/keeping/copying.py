"""Copying messages from one conversation to another, as they are."""

from collections.abc import Sequence
from typing import Final

from shared.conversation.protocol import ConversationStore
from shared.errors import CorruptEntryError
from shared.message import Message

BATCH: Final = 100
"""Messages of one append."""


async def write_copies(
    store: ConversationStore, conversation_id: str, messages: Sequence[Message]
) -> None:
    """Append messages with the ids, runs, positions and times that they have.

    Raises:
        StoreUnavailableError: No answer. What is there is then part of a copy, to be deleted.
    """
    for start in range(0, len(messages), BATCH):
        await store.append(conversation_id, messages[start : start + BATCH])


async def copy_whole(
    source: ConversationStore, target: ConversationStore, conversation_id: str
) -> int:
    """Make the conversation in `target` equal to that in `source`; return how many messages it has.

    What `target` had under this id is deleted first. Nobody may write to either meanwhile.

    Raises:
        CorruptEntryError: Some messages cannot be read, or were not read again as they are.
        StoreUnavailableError: No answer; repeating it is safe.
    """
    messages = await source.list_messages(conversation_id)
    if (count := await source.count(conversation_id)) != len(messages):
        raise CorruptEntryError(
            f"{count - len(messages)} of {count} messages of conversation {conversation_id} cannot "
            "be read, so a copy would lack them. The log names them (entry.unreadable)."
        )
    await target.delete(conversation_id)
    await write_copies(target, conversation_id, messages)
    copied = await target.list_messages(conversation_id)
    if [_content(message) for message in copied] != [_content(message) for message in messages]:
        raise CorruptEntryError(
            f"The copy of conversation {conversation_id} is not equal to it; nothing was removed. "
            "Check what the target leaves out: a limit of messages, a time to live."
        )
    return len(messages)


def _content(message: Message) -> Message:
    """The message without the place that it has in a store."""
    return message.model_copy(update={"cursor": None})
