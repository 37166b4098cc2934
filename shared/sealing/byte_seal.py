"""Encrypting what is stored besides conversations and runs, with the same keys."""

from shared.codec import decode, encode
from shared.message import Sealed
from shared.sealing.key_ring import KeyRing


class KeyRingSeal:
    """A `Seal` of a key ring: what it writes is the JSON of `Sealed`."""

    def __init__(self, key_ring: KeyRing) -> None:
        self._key_ring = key_ring

    def seal(self, data: bytes, *, context: bytes) -> bytes:
        """Encrypt with the ring's first key."""
        scope = context.decode()
        return encode(self._key_ring.seal(data, scope=scope, facts=[scope])).encode()

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """Undo `seal`, with whichever key of the ring it was.

        Raises:
            CorruptEntryError: It is nothing that `seal` returned.
            SealKeyError: The ring has no such key.
            TamperedError: It was altered, or sealed in another context.
        """
        scope = context.decode()
        entry = decode(Sealed, sealed, where=scope)
        return self._key_ring.open(entry, scope=scope, facts=[scope], where=scope)
