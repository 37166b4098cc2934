"""The guard: no sealed message leaves a store unopened."""

from shared.errors import SealError, SealKeyError, UnstorableError
from shared.message import Message, Sealed
from shared.sealing.key_ring import named
from shared.sealing.message_seal import is_encrypted
from shared.sealing.wrapper import WrappedConversations


class GuardedConversations(WrappedConversations):
    """Refuses to hand out a message that nothing below has opened.

    Its content would look empty: to a model, to whoever watches, in an export. It says instead
    which setting is missing.

    Raises:
        ConfigurationError: As `WrappedConversations`.
    """

    layer = 3
    what = "a guard"

    def _seal(self, _conversation_id: str, message: Message, /) -> Message:
        if message.sealed is not None:
            raise UnstorableError(
                f"Message {message.id} is sealed, for the place that it was read from; read it "
                "through a store that opens it."
            )
        return message

    def _open(self, _conversation_id: str, message: Message, where: str, /) -> Message:
        if message.sealed is not None:
            raise unopened(message.sealed, where)
        return message


def unopened(sealed: Sealed, where: str) -> SealError:
    """Why nobody has opened this, and what to set."""
    if is_encrypted(sealed):
        return SealKeyError(
            f"{where} is encrypted, and this process has no keys. Set AGENTS_ENCRYPTION_KEYS to "
            f"those of the system; the key {named(sealed.key_id)} opens it.",
            key_id=sealed.key_id,
        )
    return SealError(
        f"{where} is sealed by {', '.join(map(repr, sealed.layers))[:100] or 'nothing'}, which "
        "this process does not know how to open; update it."
    )
