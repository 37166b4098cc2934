"""Keys as settings name them."""

import base64
import hashlib

import pytest

from shared.encryption_key import EncryptionKey, parse_keys
from shared.errors import ConfigurationError
from shared.sealing.key_ring import KeyRing
from shared.settings import read_settings

SECRET = hashlib.sha256(b"one").digest()  # fixed: the names of tests hold it
OTHER = hashlib.sha256(b"two").digest()


def b64(secret: bytes) -> str:
    return base64.b64encode(secret).decode()


def test_the_first_key_comes_first() -> None:
    """It writes; the order is that of the setting."""
    keys = parse_keys(f"2026-11:{b64(SECRET)}, old_1.a:{b64(OTHER)}")
    assert [(key.id, key.secret) for key in keys] == [("2026-11", SECRET), ("old_1.a", OTHER)]


def test_hex_and_url_safe_base64_are_the_same_key() -> None:
    """64 digits of hex would be 48 bytes of base64, so nothing can be mistaken."""
    forms: tuple[str, ...] = (b64(SECRET), SECRET.hex(), SECRET.hex().upper())
    forms = (*forms, base64.urlsafe_b64encode(SECRET).decode())
    assert {parse_keys(f"k:{form}")[0].secret for form in forms} == {SECRET}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "There is no encryption key"),
        (" , ", "There is no encryption key"),
        (b64(SECRET), "place 1 has not the form id:key"),
        (f"k:{b64(SECRET)},", "place 2 has not the form id:key"),
        ("k:", "has not the form id:key"),
        (f":{b64(SECRET)}", "id is 1 to 64"),
        (f"a b:{b64(SECRET)}", "id is 1 to 64"),
        (f"{'k' * 65}:{b64(SECRET)}", "id is 1 to 64"),
        (f"ключ:{b64(SECRET)}", "id is 1 to 64"),
        (f"k:{b64(SECRET[:16])}", "has 16 bytes and must have 32: only AES-256"),
        (f"k:{b64(SECRET[:24])}", "has 24 bytes and must have 32: only AES-256"),
        (f"k:{b64(SECRET + b'x')}", "has 33 bytes"),
        (f"k:{SECRET.hex()[:-1]}", "neither base64 nor 64 digits of hex"),
        (f"k:{b64(SECRET)[:-1]}", "neither base64 nor 64 digits of hex"),
        ("k:!!!", "neither base64 nor 64 digits of hex"),
        (f"k:{b64(bytes(32))}", "placeholder"),
        (f"k:{b64(SECRET)},k:{b64(OTHER)}", "two encryption keys with the id k"),
        (f"k:{b64(SECRET)},j:{b64(SECRET)}", "same key under two ids"),
    ],
)
def test_what_is_no_key_is_refused_when_settings_are_built(text: str, says: str) -> None:
    """By name of the setting, with what to change, and without the key."""
    with pytest.raises(ConfigurationError, match=says):
        parse_keys(text)
    with pytest.raises(ConfigurationError) as caught:
        read_settings(encryption_keys=text)
    assert "AGENTS_ENCRYPTION_KEYS" in str(caught.value)
    for secret in (SECRET, OTHER):
        assert b64(secret)[:20] not in str(caught.value)
        assert secret.hex()[:20] not in str(caught.value)


def test_the_command_in_the_message_makes_a_key() -> None:
    """Whoever follows it has a key that is taken."""
    with pytest.raises(ConfigurationError) as caught:
        parse_keys("")
    command = str(caught.value).partition("python -c '")[2].rstrip("'")
    assert "token_bytes(32)" in command
    printed: list[str] = []
    exec(command, {"print": printed.append})
    assert len(parse_keys(f"k:{printed[0]}")[0].secret) == 32


def test_no_form_of_a_key_shows_it() -> None:
    """Neither its own nor that of the settings."""
    shown = repr(EncryptionKey("k", SECRET)) + repr(
        read_settings(encryption_keys=f"k:{b64(SECRET)}")
    )
    assert b64(SECRET) not in shown
    assert repr(SECRET) not in shown


def test_a_ring_of_keys_that_are_none_is_refused_when_built() -> None:
    """Also one that was made without settings."""
    for keys in ([], [EncryptionKey("k", SECRET[:16])], [EncryptionKey("", SECRET)]):
        with pytest.raises(ConfigurationError):
            KeyRing(keys)
    with pytest.raises(ConfigurationError):
        KeyRing([EncryptionKey("k", SECRET), EncryptionKey("k", OTHER)])
