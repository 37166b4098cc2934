"""Every store of snapshots keeps the same contract."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from shared.backend import Backend
from shared.encryption_key import EncryptionKey, Plaintext
from shared.errors import SealKeyError, TamperedError, UnsealedError
from shared.redis_keys import Keys
from shared.sealing.byte_seal import KeyRingSeal
from shared.sealing.key_ring import KeyRing
from shared.snapshot.codec import Packed
from shared.snapshot.file import FileSnapshotStore
from shared.snapshot.memory import MemorySnapshotStore
from shared.snapshot.protocol import SnapshotStore
from tests.contract.harness import Harness, RedisHarness
from tests.contract.snapshot import Damage, SnapshotContract, snapshot

SEAL: Final = KeyRingSeal(KeyRing([EncryptionKey("test", bytes(range(32)))]))


class TestMemory(SnapshotContract):
    @pytest.fixture
    def store(self) -> SnapshotStore:
        return MemorySnapshotStore()

    @pytest.fixture
    def elsewhere(self, store: SnapshotStore) -> SnapshotStore:
        return store

    @pytest.fixture
    def damage(self, store: MemorySnapshotStore) -> Damage:
        async def harm(snapshot_id: str) -> None:
            store._packed[snapshot_id] = Packed(b"plain\n{", b"plain\n{")

        return harm


class TestSealed(TestMemory):
    """Sealed, in memory."""

    @pytest.fixture
    def store(self) -> SnapshotStore:
        return MemorySnapshotStore(seal=SEAL)

    @pytest.fixture
    def damage(self, store: MemorySnapshotStore) -> Damage:
        async def harm(snapshot_id: str) -> None:
            store._packed[snapshot_id] = Packed(b"sealed\n{", b"sealed\n{")

        return harm

    async def test_a_piece_in_another_place_does_not_open(self, store: MemorySnapshotStore) -> None:
        """The history of one snapshot cannot be put under another, nor one piece for the other."""
        first, second = snapshot(), snapshot()
        await store.save(first)
        await store.save(second)
        mine, other = store._packed[first.info.id], store._packed[second.info.id]
        for forged in (Packed(mine.info, other.body), Packed(mine.info, mine.info), other):
            store._packed[first.info.id] = forged
            with pytest.raises(TamperedError):
                await store.load(first.info.id)

    async def test_nothing_of_it_can_be_read_without_the_key(
        self, store: MemorySnapshotStore
    ) -> None:
        """Neither the history, nor prompts, nor whose it is."""
        saved = snapshot("web:ada", "clerk", "secret text")
        await store.save(saved)
        packed = store._packed[saved.info.id]
        for word in (b"secret", b"brief", b"clerk", b"web:ada", b"look_up"):
            assert word not in packed.info + packed.body


async def test_sealed_and_plain_ones_are_not_taken_for_each_other() -> None:
    """Neither is passed over: it is whole, and it takes another setting to read it."""
    sealed, plain = MemorySnapshotStore(seal=SEAL), MemorySnapshotStore()
    one, two = snapshot(), snapshot()
    await sealed.save(one)
    await plain.save(two)
    sealed._packed, plain._packed = plain._packed, sealed._packed
    cases: list[tuple[SnapshotStore, str, type[Exception]]] = [
        (sealed, two.info.id, UnsealedError),
        (plain, one.info.id, SealKeyError),
    ]
    for store, name, expected in cases:
        with pytest.raises(expected):
            await store.load(name)
        with pytest.raises(expected):
            await store.list_snapshots()


async def test_encryption_is_turned_on_step_by_step() -> None:
    """With `write` keys only read; with `read` they write as well, and plain ones are read."""
    ring = KeyRing([EncryptionKey("test", bytes(range(32)))])
    kinds: tuple[Plaintext, ...] = ("write", "read", "refuse")
    first, second, third = [
        MemorySnapshotStore(seal=KeyRingSeal(ring, plaintext=kind)) for kind in kinds
    ]
    second._packed = third._packed = first._packed
    plain, encrypted = snapshot(), snapshot()
    await first.save(plain)
    await second.save(encrypted)
    assert first._packed[plain.info.id].body.startswith(b"plain")
    assert first._packed[encrypted.info.id].body.startswith(b"sealed")
    for store in (first, second):
        for each in (plain, encrypted):
            assert await store.load(each.info.id) == each
    assert await third.load(encrypted.info.id) == encrypted
    with pytest.raises(UnsealedError):
        await third.load(plain.info.id)


class TestFile(SnapshotContract):
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "snapshots"

    @pytest.fixture
    def store(self, folder: Path) -> SnapshotStore:
        return FileSnapshotStore(folder)

    @pytest.fixture
    def elsewhere(self, folder: Path) -> SnapshotStore:
        return FileSnapshotStore(folder)

    @pytest.fixture
    def damage(self, folder: Path) -> Damage:
        async def harm(snapshot_id: str) -> None:
            file = folder / f"{snapshot_id}.snapshot"
            os.truncate(file, 40)

        return harm


@pytest.mark.integration
class TestRedis(SnapshotContract):
    @pytest.fixture(params=["redis", "cluster"])
    async def harness(self, request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
        from tests.contract.stores import STORES

        stores: Any = STORES[request.param].open(request)
        yield stores._harness
        await stores.aclose()

    @pytest.fixture
    def store(self, backend: Backend) -> SnapshotStore:
        return backend.snapshots

    @pytest.fixture
    def elsewhere(self, harness: Harness, backend: Backend) -> SnapshotStore:
        return harness.open_elsewhere(backend).snapshots

    @pytest.fixture
    def damage(self, harness: RedisHarness) -> Damage:
        async def harm(snapshot_id: str) -> None:
            async with harness._connect() as client:
                key = Keys(harness.key_prefix).snapshot(snapshot_id)
                await client.hset(key, mapping={"info": b"\xff\xfe{", "body": b"\xff"})

        return harm

    async def test_deleting_leaves_nothing_behind(
        self, store: SnapshotStore, harness: RedisHarness
    ) -> None:
        """No key of any kind."""
        for agent in ("clerk", None):
            saved = snapshot("web:ada", agent)
            await store.save(saved)
            await store.delete(saved.info.id)
        async with harness._connect() as client:
            pattern = f"*{harness.key_prefix}*snapshot*"
            assert [key async for key in client.scan_iter(match=pattern)] == []
