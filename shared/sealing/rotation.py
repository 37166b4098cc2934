"""What it takes to let an encryption key go: which are in use, and messages under a newer one."""

from collections import Counter
from typing import Final

from shared.conversation.protocol import ConversationStore
from shared.encryption_key import Plaintext
from shared.message import Message
from shared.sealing.key_ring import KeyRing
from shared.sealing.message_seal import MessageSealer
from shared.sealing.wrapper import innermost

_PAGE: Final = 500


async def keys_in_use(store: ConversationStore, conversation_id: str) -> Counter[str | None]:
    """How many messages of a conversation are under each key; None for what is not encrypted.

    A key that no conversation uses can be removed. Needs no keys.
    """
    below, counted = innermost(store), Counter[str | None]()
    page = await below.list_messages(conversation_id, limit=_PAGE)
    while page:
        counted.update(_key_of(message) for message in page)
        page = await below.list_messages(conversation_id, limit=_PAGE, before=page[0].cursor)
    return counted


def resealed(
    message: Message, conversation_id: str, key_ring: KeyRing, *, plaintext: Plaintext = "refuse"
) -> Message:
    """A message as it is stored, encrypted anew with the first key of the ring for the same place.

    One that is under that key already comes back as it is. Compression stays.

    Raises:
        SealError: It cannot be opened.
    """
    if _key_of(message) == key_ring.writing_id:
        return message
    sealer = MessageSealer(key_ring, plaintext=plaintext)
    where = f"Message {message.id} of conversation {conversation_id}"
    opened = sealer.open(conversation_id, message, where=where)
    sealed = sealer.seal(conversation_id, opened)
    return sealed if message.cursor is None else sealed.at(message.cursor)


def _key_of(message: Message) -> str | None:
    return None if message.sealed is None else message.sealed.key_id
