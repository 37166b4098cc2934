"""Encrypts messages for their places, and decrypts them there."""

from shared.encryption_key import Plaintext
from shared.errors import TamperedError, UnsealedError, UnstorableError
from shared.message import Message, Sealed
from shared.sealing.binding import facts_of_message
from shared.sealing.key_ring import AES_GCM, KeyRing
from shared.sealing.message_body import body_of, shell_of, with_body, with_seal
from shared.sealing.repack import as_sealed, bytes_of


class MessageSealer:
    """Encrypts with the first key of the ring, decrypts with each of them.

    What another layer made of a message before (compression) is encrypted as it is, and is there
    again when the encryption is undone. `plaintext` says what becomes of what is not encrypted.
    """

    def __init__(self, key_ring: KeyRing, *, plaintext: Plaintext = "refuse") -> None:
        self._key_ring = key_ring
        self._plaintext = plaintext

    def seal(self, conversation_id: str, message: Message) -> Message:
        """The message encrypted, for its place in this conversation.

        Raises:
            UnstorableError: It is encrypted already, or could not be read again.
        """
        if self._plaintext == "write" and not (message.sealed and is_encrypted(message.sealed)):
            return message
        shell = shell_of(message)
        layers: tuple[str, ...] = ()
        if message.sealed is None:
            data = body_of(message)
        elif is_encrypted(message.sealed):
            raise UnstorableError(
                f"Message {message.id} is encrypted already, for the place that it was read from; "
                "read it through an encrypted store to write it to another one."
            )
        else:
            layers, data = message.sealed.layers, bytes_of(message.sealed, f"Message {message.id}")
        facts = facts_of_message(conversation_id, shell)
        scope = scope_of(conversation_id)
        return with_seal(shell, self._key_ring.seal(data, scope=scope, facts=facts, layers=layers))

    def open(self, conversation_id: str, message: Message, *, where: str) -> Message:
        """The message as it was before `seal`; `where` names it in errors.

        Raises:
            SealKeyError: Its key is not in the ring.
            TamperedError: It is not what was written here.
            UnsealedError: It is not encrypted.
        """
        sealed = message.sealed
        if sealed is None or not is_encrypted(sealed):
            if self._plaintext == "refuse":
                raise _unsealed(where)
            return message
        if sealed.layers[-1] != AES_GCM:
            raise TamperedError(f"{where} was altered: its layers are in an order nobody writes.")
        facts = facts_of_message(conversation_id, message)
        data = self._key_ring.open(
            sealed, scope=scope_of(conversation_id), facts=facts, where=where
        )
        if len(sealed.layers) > 1:
            return with_seal(message, as_sealed(sealed.layers[:-1], data))
        return with_body(message, data, where=where)


def scope_of(conversation_id: str) -> str:
    """The scope of a conversation's messages in a key ring."""
    return f"conversation:{conversation_id}"


def is_encrypted(sealed: Sealed) -> bool:
    """Whether it takes a key to open this."""
    return AES_GCM in sealed.layers


def _unsealed(where: str) -> UnsealedError:
    return UnsealedError(
        f"{where} is not encrypted, so anybody who can write to the store may have put it there. "
        "If it is from before AGENTS_ENCRYPTION_KEYS was set, set AGENTS_PLAINTEXT=read "
        "until such conversations are encrypted, expired or deleted."
    )
