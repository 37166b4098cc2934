"""AES-256-GCM as it is documented: checked with a decryption that is written from the document."""

import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.encryption_key import EncryptionKey
from shared.errors import SealKeyError, TamperedError
from shared.message import Sealed
from shared.sealing.binding import canonical
from shared.sealing.key_ring import KeyRing, derived
from tests.unit.sealing.scene import key, ring

SECRET = bytes(range(32))
RING = KeyRing([EncryptionKey("2026-11", SECRET)])


def decrypt(sealed: Sealed, secret: bytes, scope: str, facts: Sequence[object]) -> bytes:
    """What docs/encryption.md says, in the primitives of the standard library and CTR with GHASH.

    Deliberately no `AESGCM`, `hkdf` or code of `shared`: whoever implements it elsewhere has this.
    """
    raw = base64.b64decode(sealed.data)
    nonce, ciphertext, tag = raw[:12], raw[12:-16], raw[-16:]
    pseudorandom = hmac.new(b"\0" * 32, secret, hashlib.sha256).digest()
    info = b"celery-agents 1 " + scope.encode()
    subkey = hmac.new(pseudorandom, info + b"\x01", hashlib.sha256).digest()
    bound = json.dumps([*facts, list(sealed.layers), sealed.key_id], separators=(",", ":"))
    decryptor = Cipher(algorithms.AES(subkey), modes.GCM(nonce, tag)).decryptor()
    decryptor.authenticate_additional_data(bound.encode("ascii"))
    return decryptor.update(ciphertext) + decryptor.finalize()


def test_the_form_is_the_documented_one() -> None:
    """Nonce, ciphertext, tag; a key of the scope; facts, layers and key id bound to it."""
    facts = ["message", "support:ä", "run-1.0", None, 0]
    sealed = RING.seal(b"attack at dawn", scope="conversation:support:ä", facts=facts)
    assert sealed.layers == ("aes-256-gcm",)
    assert sealed.key_id == "2026-11"
    assert len(base64.b64decode(sealed.data)) == 12 + len(b"attack at dawn") + 16
    assert decrypt(sealed, SECRET, "conversation:support:ä", facts) == b"attack at dawn"


def test_what_was_sealed_once_can_be_opened_for_ever() -> None:
    """A known answer: stored names and forms are compatibility data."""
    sealed = Sealed(
        layers=("aes-256-gcm",),
        key_id="2026-11",
        data="ZGVmZ2hpamtsbW5v9tXULQTRiUdPofn2HbZeJLh4eMEhpbFlkDscjLOdtzwM",
    )
    opened = RING.open(sealed, scope="run:run-1", facts=["request", "run-1", None, 5], where="it")
    assert opened == b'{"input":"hello"}'


def test_derived_keys_are_those_of_rfc_5869() -> None:
    """One block of HKDF-SHA256, as the library has it."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    expected = HKDF(SHA256(), 32, salt=None, info=b"celery-agents 1 run:x").derive(SECRET)
    assert derived(SECRET, "run:x") == expected


def test_nonces_are_random_and_never_the_same() -> None:
    """Neither for equal data nor over rings of one key, as two processes have them."""
    other = KeyRing([EncryptionKey("2026-11", SECRET)])
    seen: Counter[bytes] = Counter()
    for number in range(2_000):
        keys = RING if number % 2 else other
        sealed = keys.seal(b"same", scope="s", facts=["f"])
        seen[base64.b64decode(sealed.data)[:12]] += 1
    assert max(seen.values()) == 1
    for place in range(12):
        assert len({nonce[place] for nonce in seen}) > 200, "each byte of it varies"


def test_every_bit_counts() -> None:
    """Whichever bit of nonce, ciphertext or tag is flipped: it does not open."""
    sealed = RING.seal(b"abc", scope="s", facts=["f"])
    raw = base64.b64decode(sealed.data)
    for bit in range(len(raw) * 8):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(TamperedError):
            _open(sealed, base64.b64encode(changed).decode())
    for length in range(len(raw)):
        with pytest.raises(TamperedError):
            _open(sealed, base64.b64encode(raw[:length]).decode())


def test_every_character_counts() -> None:
    """Of the base64 as well, of which careless decoders read several forms."""
    sealed = RING.seal(b"abcd", scope="s", facts=["f"])
    assert sealed.data.endswith("=")
    for place in range(len(sealed.data)):
        for other in ("A", "B", "/", "=", "-", " ", "\n", "é", "\0"):
            if sealed.data[place] != other:
                with pytest.raises(TamperedError):
                    _open(sealed, sealed.data[:place] + other + sealed.data[place + 1 :])
    for added in ("", "=", "A", "AAAA", "\n"):
        if added:
            with pytest.raises(TamperedError):
                _open(sealed, sealed.data + added)


def _open(sealed: Sealed, data: str) -> bytes:
    changed = sealed.model_copy(update={"data": data})
    return RING.open(changed, scope="s", facts=["f"], where="it")


@pytest.mark.parametrize(
    "changed",
    [
        {"scope": "t"},
        {"facts": ["g"]},
        {"facts": ["f", None]},
        {"facts": []},
    ],
)
def test_what_is_bound_cannot_be_exchanged(changed: dict[str, object]) -> None:
    """Scope and facts have to be the same."""
    sealed = RING.seal(b"abc", scope="s", facts=["f"])
    place: dict[str, object] = {"scope": "s", "facts": ["f"]} | changed
    with pytest.raises(TamperedError):
        RING.open(sealed, where="it", **place)  # type: ignore[arg-type]  # as the parameters say


def test_layers_and_key_id_are_bound() -> None:
    """Who strips a layer, or names another key, makes it unreadable."""
    keys = ring("a", "b")
    sealed = keys.seal(b"abc", scope="s", facts=["f"], layers=["zstd"])
    for change in (
        {"layers": ("aes-256-gcm",)},
        {"layers": ("gzip", "aes-256-gcm")},
        {"key_id": "b"},
    ):
        with pytest.raises(TamperedError):
            keys.open(sealed.model_copy(update=change), scope="s", facts=["f"], where="it")


def test_a_missing_key_is_named() -> None:
    """Which one, and where to put it; a hostile name is no more than quoted."""
    sealed = ring("a").seal(b"abc", scope="s", facts=["f"])
    with pytest.raises(
        SealKeyError, match=r"The thing.*AGENTS_ENCRYPTION_KEYS \(b, c\).*'a'"
    ) as one:
        ring("b", "c").open(sealed, scope="s", facts=["f"], where="The thing")
    assert one.value.key_id == "a"
    for name in (None, "x" * 10_000, "\x1b[2J\n"):
        with pytest.raises(SealKeyError) as caught:
            ring("b").open(
                sealed.model_copy(update={"key_id": name}), scope="s", facts=["f"], where="it"
            )
        assert len(str(caught.value)) < 400
        assert "\x1b" not in str(caught.value)


def test_another_key_under_the_same_id_says_so() -> None:
    """The likeliest mistake of an operator is told apart from nothing, but named."""
    sealed = KeyRing([key("a")]).seal(b"abc", scope="s", facts=["f"])
    with pytest.raises(TamperedError, match="another one under the same id"):
        KeyRing([key("a", fill=1)]).open(sealed, scope="s", facts=["f"], where="it")


@settings(max_examples=300, deadline=None)
@given(st.binary(), st.text(), st.lists(st.none() | st.integers() | st.text(), max_size=5))
def test_whatever_is_sealed_is_opened_by_any_ring_with_the_key(
    data: bytes, scope: str, facts: list[int | str | None]
) -> None:
    """And by no other one, though it has a key of the same name."""
    scope = scope.encode("utf-8", "replace").decode()
    sealed = ring("a", "b").seal(data, scope=scope, facts=facts)
    assert ring("b", "a").open(sealed, scope=scope, facts=facts, where="it") == data
    with pytest.raises(TamperedError):
        KeyRing([key("a", fill=9)]).open(sealed, scope=scope, facts=facts, where="it")
    with pytest.raises(SealKeyError):
        ring("b").open(sealed, scope=scope, facts=facts, where="it")


_facts = st.lists(
    st.none() | st.integers() | st.text() | st.lists(st.text(), max_size=2), max_size=4
)


@settings(max_examples=500, deadline=None)
@given(_facts, _facts)
def test_different_facts_never_look_the_same(one: list[object], other: list[object]) -> None:
    """Wherever brackets, commas and quotes stand in them."""
    same = [(type(fact), fact) for fact in one] == [(type(fact), fact) for fact in other]
    assert (canonical(one) == canonical(other)) is same  # type: ignore[arg-type]  # as drawn
