"""Sealing bytes with a key ring: snapshots, agents' cards."""

from shared.codec import decode, encode
from shared.encryption_key import Plaintext
from shared.message import Sealed
from shared.sealing.key_ring import KeyRing


class KeyRingSeal:
    """See `shared.byte_seal.Seal`. Each context has a key of its own."""

    def __init__(self, key_ring: KeyRing, *, plaintext: Plaintext = "refuse") -> None:
        self._key_ring = key_ring
        self.plaintext = plaintext

    def seal(self, data: bytes, *, context: str) -> bytes:
        """Encrypt, bound to the context."""
        return encode(self._key_ring.seal(data, scope=context, facts=[context])).encode()

    def open(self, sealed: bytes, *, context: str, where: str) -> bytes:
        """Decrypt what was sealed in this context.

        Raises:
            SealKeyError: The ring lacks the key.
            TamperedError: It was altered, or comes from another context.
            CorruptEntryError: It is nothing that was sealed.
        """
        value = decode(Sealed, sealed, where=where)
        return self._key_ring.open(value, scope=context, facts=[context], where=where)
