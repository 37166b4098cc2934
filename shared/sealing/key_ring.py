"""The key ring: encrypts with its first key, decrypts with all of them."""

import base64
import hmac
import os
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from shared.encryption_key import EncryptionKey, check_distinct, check_key, parse_keys
from shared.errors import ConfigurationError, SealKeyError, TamperedError
from shared.message import Sealed
from shared.sealing.binding import Fact, canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

AES_GCM: Final = "aes-256-gcm"
"""The name of this layer in `Sealed.layers`."""
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_CIPHERS: Final = 4096
"""Keys of scopes that are kept at hand; to derive one takes some ten microseconds."""


class KeyRing:
    """AES-256-GCM under keys of 32 bytes.

    Each *scope* (a conversation, a run) has a key of its own, derived by HKDF-SHA256 from the key
    in the ring: so a random nonce has to be new among the entries of one scope, not among all that
    a key ever encrypts. What comes out is base64 of nonce (12 bytes, random), ciphertext, tag (16).

    Raises:
        ConfigurationError: No keys, or unusable ones (see `shared.encryption_key`), or the library
            is not installed.
    """

    def __init__(self, keys: Sequence[EncryptionKey]) -> None:
        if not keys:
            raise ConfigurationError("A key ring needs one key at least; the first one encrypts.")
        checked = tuple(check_key(key.id, key.secret) for key in keys)
        check_distinct(checked)
        _load()
        self._secrets = {key.id: key.secret for key in checked}
        self._first = checked[0].id
        self._cipher = lru_cache(maxsize=_CIPHERS)(self._make_cipher)

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """A ring of the keys in ``id:key,id2:key2``, as `AGENTS_ENCRYPTION_KEYS` has them.

        Raises:
            ConfigurationError: As the class.
        """
        return cls(parse_keys(text))

    @property
    def writing_id(self) -> str:
        """The id of the key that encrypts."""
        return self._first

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, the one that encrypts first."""
        return tuple(self._secrets)

    def seal(
        self, data: bytes, *, scope: str, facts: Sequence[Fact], layers: Sequence[str] = ()
    ) -> Sealed:
        """Encrypt `data`, bound to `facts`; `layers` are what was done to it before.

        `scope` and `facts` have to be given again, the same, to open it.
        """
        done = (*layers, AES_GCM)
        nonce = os.urandom(NONCE_BYTES)
        bound = canonical([*facts, list(done), self._first])
        encrypted = self._cipher(self._first, scope).encrypt(nonce, data, bound)
        return Sealed(
            layers=done,
            key_id=self._first,
            data=base64.b64encode(nonce + encrypted).decode("ascii"),
        )

    def open(self, sealed: Sealed, *, scope: str, facts: Sequence[Fact], where: str) -> bytes:
        """Decrypt what `seal` made under the same scope and facts. `where` names it in errors.

        Raises:
            SealKeyError: The ring has no key with the id that it names.
            TamperedError: It was altered, or sealed for another place, or with another key.
        """
        if sealed.key_id is None or sealed.key_id not in self._secrets:
            raise SealKeyError(
                f"{where} is encrypted with a key that is not among those of "
                f"AGENTS_ENCRYPTION_KEYS ({', '.join(self.ids)}); add the key "
                f"{named(sealed.key_id)} there.",
                key_id=sealed.key_id,
            )
        raw = decoded(sealed, where)
        bound = canonical([*facts, list(sealed.layers), sealed.key_id])
        # Here, since the library takes long to load and those who have no keys need it never.
        from cryptography.exceptions import InvalidTag

        try:
            cipher = self._cipher(sealed.key_id, scope)
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], bound)
        except (InvalidTag, ValueError) as error:  # ValueError: shorter than a nonce
            raise TamperedError(
                f"{where} does not open with the key {named(sealed.key_id)}: it was altered, or "
                "moved here from another place, or that key is another one under the same id. "
                "Nothing was removed."
            ) from error

    def digest(self, facts: Sequence[Fact]) -> str:
        """What stands for `facts` without telling them: HMAC-SHA256 under the first key, in hex."""
        key = derived(self._secrets[self._first], "digest")
        return hmac.new(key, canonical(facts), sha256).hexdigest()

    def _make_cipher(self, key_id: str, scope: str) -> "AESGCM":
        return _load()(derived(self._secrets[key_id], scope))


def derived(secret: bytes, scope: str) -> bytes:
    """The key of a scope: HKDF-SHA256 (RFC 5869) without salt, 32 bytes."""
    pseudorandom = hmac.new(bytes(sha256().digest_size), secret, sha256).digest()
    info = b"celery-agents 1 " + scope.encode()
    return hmac.new(pseudorandom, info + b"\x01", sha256).digest()


def decoded(sealed: Sealed, where: str) -> bytes:
    """The bytes of a sealed value.

    Raises:
        TamperedError: Its data is not base64, or not in the one form that base64 of it has.
    """
    try:
        raw = base64.b64decode(sealed.data, validate=True)
    except ValueError as error:
        raise TamperedError(
            f"{where} was altered: its data is not base64. Nothing was removed."
        ) from error
    rest = len(raw) % 3
    if rest and not sealed.data.endswith(base64.b64encode(raw[-rest:]).decode("ascii")):
        raise TamperedError(f"{where} was altered: its base64 is not canonical.")
    return raw


def named(key_id: str | None) -> str:
    """A key's id for a message: it may come from somebody who wants to be read there."""
    return "without an id" if key_id is None else repr(key_id[:64])


def _load() -> "type[AESGCM]":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigurationError(
            "Encryption needs the library `cryptography`; install celery-agents[encryption], or "
            "unset AGENTS_ENCRYPTION_KEYS."
        ) from error
    return AESGCM
