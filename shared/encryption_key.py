"""Encryption keys as settings name them: ``id:key,id2:key2``, the first of which writes.

Reading them takes no library, so that settings are checked where none is installed.
"""

import base64
import re
from dataclasses import dataclass, field
from typing import Final, Literal

from shared.errors import ConfigurationError

Plaintext = Literal["refuse", "read", "write"]
"""What a process that has keys does in clear: nothing; it reads what is there (of before); or it
writes as well, and has its keys to read with."""

KEY_BYTES: Final = 32
"""AES-256. Keys of 16 and 24 bytes (AES-128, AES-192) are refused: one length, one strength."""
_HEX: Final = re.compile(rf"[0-9A-Fa-f]{{{KEY_BYTES * 2}}}")
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOW: Final = (
    "Make one with: python -c 'import base64, secrets; "
    "print(base64.b64encode(secrets.token_bytes(32)).decode())'"
)


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """A key and the name under which entries say that they need it."""

    id: str
    secret: bytes = field(repr=False)
    """32 bytes."""


def parse_keys(text: str) -> tuple[EncryptionKey, ...]:
    """The keys of ``id:key,id2:key2``, in order; each is 32 bytes, in base64 or in hex.

    Raises:
        ConfigurationError: There is none, an id or a key has not the right form, or one of them
            is there twice. No key is in the message.
    """
    entries = [entry.strip() for entry in text.split(",")]
    if not any(entries):
        raise ConfigurationError(
            "There is no encryption key. Write id:key, such as 2026-11:<32 bytes in base64>, or "
            f"unset AGENTS_ENCRYPTION_KEYS to store what is said as it is. {_HOW}"
        )
    keys = tuple(_parse(entry, place) for place, entry in enumerate(entries, start=1))
    check_distinct(keys)
    return keys


def check_distinct(keys: tuple[EncryptionKey, ...]) -> None:
    """Raises `ConfigurationError` where an id or a key is there twice."""
    ids = [key.id for key in keys]
    for name in ids:
        if ids.count(name) > 1:
            raise ConfigurationError(
                f"There are two encryption keys with the id {name}: nobody could say which of them "
                "an entry needs. Give each key an id of its own, and never use an id again."
            )
    if len({key.secret for key in keys}) < len(keys):
        raise ConfigurationError(
            f"Two of the encryption keys {', '.join(ids)} are the same key under two ids, so that "
            f"rotating them would change nothing. {_HOW}"
        )


def check_key(name: str, secret: bytes) -> EncryptionKey:
    """A key with this id.

    Raises:
        ConfigurationError: The id has not the right form, or the key is not 32 bytes long.
    """
    if not _ID.fullmatch(name):
        raise ConfigurationError(
            "An encryption key's id is 1 to 64 letters, digits and _ . - of ASCII; one of the ids "
            "is not. Write id:key, with commas between keys."
        )
    if len(secret) != KEY_BYTES:
        raise ConfigurationError(
            f"The encryption key {name} has {len(secret)} bytes and must have {KEY_BYTES}: only "
            f"AES-256 is used, so keys of 16 and 24 bytes are refused. {_HOW}"
        )
    if len(set(secret)) == 1:
        raise ConfigurationError(
            f"The encryption key {name} is one byte, {KEY_BYTES} times: a placeholder. {_HOW}"
        )
    return EncryptionKey(name, secret)


def _parse(entry: str, place: int) -> EncryptionKey:
    name, colon, text = entry.partition(":")
    if not colon or not text.strip():
        raise ConfigurationError(
            f"The encryption key at place {place} has not the form id:key. {_HOW}"
        )
    return check_key(name.strip(), _bytes_of(name.strip(), text.strip()))


def _bytes_of(name: str, text: str) -> bytes:
    # 64 digits of hex are base64 as well, of 48 bytes, which no key has: so there is no doubt.
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        shown = name if _ID.fullmatch(name) else "(its id is malformed as well)"
        raise ConfigurationError(
            f"The encryption key {shown} is neither base64 nor {KEY_BYTES * 2} digits of hex. "
            + _HOW
        ) from None
