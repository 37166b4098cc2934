"""What is stored besides conversations and runs (snapshots, agents' cards), sealed where keys are.

The stored form begins with a line that says whether it is ``plain`` or ``sealed``.
"""

from typing import Final, Protocol

from shared.encryption_key import Plaintext
from shared.errors import CorruptEntryError, SealKeyError, UnsealedError

_PLAIN: Final = b"plain\n"
_SEALED: Final = b"sealed\n"


class Seal(Protocol):
    """Encrypts bytes so that only holders of a key can read them, and nobody can change them."""

    @property
    def plaintext(self) -> Plaintext:
        """What becomes of what is not encrypted: refused, read, or written as well."""
        ...

    def seal(self, data: bytes, *, context: str) -> bytes:
        """Encrypt. The answer is text (UTF-8); `context` has to be the same to open it again."""
        ...

    def open(self, sealed: bytes, *, context: str, where: str) -> bytes:
        """Undo `seal`; `where` names it in errors.

        Raises:
            SealError: A key is missing, or it is not what was sealed in this context.
            CorruptEntryError: It is nothing that was sealed.
        """
        ...


def closed(data: bytes, seal: Seal | None, context: str) -> bytes:
    """The stored form of `data`."""
    if seal is None or seal.plaintext == "write":
        return _PLAIN + data
    return _SEALED + seal.seal(data, context=context)


def opened(stored: bytes, seal: Seal | None, context: str, *, where: str) -> bytes:
    """What `closed` was given; `where` names it in errors.

    Raises:
        UnsealedError: It is not encrypted, and only what is encrypted may be believed.
        SealError: It cannot be opened.
        CorruptEntryError: It is no stored form.
    """
    if stored.startswith(_PLAIN):
        if seal is not None and seal.plaintext == "refuse":
            raise UnsealedError(
                f"{where} is not encrypted, so anybody who can write to the store may have put it "
                "there. If it is from before AGENTS_ENCRYPTION_KEYS was set, set "
                "AGENTS_PLAINTEXT=read."
            )
        return stored.removeprefix(_PLAIN)
    if not stored.startswith(_SEALED):
        raise CorruptEntryError(f"{where} does not begin like one.")
    if seal is None:
        raise SealKeyError(
            f"{where} is encrypted, and this process has no keys. Set AGENTS_ENCRYPTION_KEYS to "
            "those of the system."
        )
    return seal.open(stored.removeprefix(_SEALED), context=context, where=where)
