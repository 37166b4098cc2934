"""Conversations that are encrypted: a wrapper over any store."""

from collections.abc import Sequence
from itertools import pairwise

from shared.conversation.protocol import ConversationStore
from shared.encryption_key import Plaintext
from shared.errors import TamperedError
from shared.message import Message
from shared.sealing.key_ring import KeyRing
from shared.sealing.message_seal import MessageSealer
from shared.sealing.wrapper import WrappedConversations


class EncryptedConversations(WrappedConversations):
    """Everything that a message says is encrypted and bound to its place.

    The place is its conversation, id, run, position, role, kind, time and version: whoever changes
    one of them, or copies the message elsewhere, makes it unreadable. The first key of the ring
    encrypts, each of them decrypts.

    A message that is not encrypted is refused: whoever can write to the store could put words into
    anybody's mouth. `plaintext` can be ``read``, for the time in which a conversation still holds
    messages of before, or ``write``, for the time in which not everybody has the keys.

    Raises:
        ConfigurationError: As `WrappedConversations`.
    """

    layer = 1
    what = "encryption"

    def __init__(
        self, store: ConversationStore, key_ring: KeyRing, *, plaintext: Plaintext = "refuse"
    ) -> None:
        super().__init__(store)
        self._sealer = MessageSealer(key_ring, plaintext=plaintext)

    def _seal(self, conversation_id: str, message: Message, /) -> Message:
        return self._sealer.seal(conversation_id, message)

    def _open(self, conversation_id: str, message: Message, where: str, /) -> Message:
        return self._sealer.open(conversation_id, message, where=where)

    def _check_own(self, conversation_id: str, own: Sequence[Message]) -> None:
        """Each message is genuine; in another order, they would mislead the run."""
        if any(first.position >= second.position for first, second in pairwise(own)):
            raise TamperedError(
                f"The messages of run {own[0].run_id} in conversation {conversation_id} are not in "
                "the order in which they were written; somebody else wrote to the store."
            )
