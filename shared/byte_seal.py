"""Encrypting what is stored besides conversations and runs: snapshots, agents' cards."""

from typing import Protocol


class Seal(Protocol):
    """Encrypts bytes so that only holders of a key can read them, and nobody can change them.

    What it returns is text (UTF-8).
    """

    def seal(self, data: bytes, *, context: bytes) -> bytes:
        """Encrypt; `context` is not stored, and has to be the same to open it again."""
        ...

    def open(self, sealed: bytes, *, context: bytes) -> bytes:
        """Undo `seal`.

        Raises:
            AgentsError: Another key sealed it, or it was changed, or it was sealed in another
                context.
        """
        ...
