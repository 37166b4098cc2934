"""Sealing snapshots and cards with the keys of conversations."""

import secrets
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.encryption_key import EncryptionKey
from shared.errors import CorruptEntryError, SealKeyError, TamperedError
from shared.memory_backend import build_memory_backend
from shared.sealing.byte_seal import KeyRingSeal
from shared.sealing.key_ring import KeyRing
from shared.settings import Settings
from shared.snapshot.file import FileSnapshotStore
from tests.contract.snapshot import snapshot as snapshot_of

MARKER = "sesame-marker"


def key(name: str) -> EncryptionKey:
    return EncryptionKey(name, secrets.token_bytes(32))


def test_what_is_sealed_opens_with_any_key_of_the_ring() -> None:
    """After a rotation, too; nothing of it can be read."""
    old, new = key("old"), key("new")
    sealed = KeyRingSeal(KeyRing([old])).seal(MARKER.encode(), context="a")
    assert MARKER.encode() not in sealed
    assert KeyRingSeal(KeyRing([new, old])).open(sealed, context="a", where="It") == MARKER.encode()
    with pytest.raises(SealKeyError):
        KeyRingSeal(KeyRing([new])).open(sealed, context="a", where="It")


def test_what_was_moved_or_changed_is_refused() -> None:
    """In another context, with another key of the same name, or when it is none of ours."""
    ring = KeyRingSeal(KeyRing([key("k")]))
    sealed = ring.seal(b"data", context="a")
    with pytest.raises(TamperedError):
        ring.open(sealed, context="b", where="It")
    with pytest.raises(TamperedError):
        KeyRingSeal(KeyRing([key("k")])).open(sealed, context="a", where="It")
    with pytest.raises(CorruptEntryError):
        ring.open(b"{}", context="a", where="It")


async def test_snapshots_are_encrypted_where_the_settings_name_keys(tmp_path: Path) -> None:
    """No file of the folder holds what was said; who has the keys reads it."""
    encoded = "k:" + secrets.token_hex(32)
    settings = Settings(snapshot_folder=tmp_path, encryption_keys=SecretStr(encoded))
    backend = build_memory_backend(settings)
    snapshot = snapshot_of("web:ada", "clerk", MARKER)
    await backend.snapshots.save(snapshot)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(MARKER.encode() in path.read_bytes() for path in files)
    assert (await backend.snapshots.load(snapshot.info.id)).history[0].text == MARKER
    plain = FileSnapshotStore(tmp_path / "plain")
    await plain.save(snapshot)
    assert any(MARKER.encode() in path.read_bytes() for path in (tmp_path / "plain").rglob("*.*"))
    await backend.aclose()
