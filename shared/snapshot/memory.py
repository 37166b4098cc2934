"""Snapshots in the memory of this process: for local mode and fast tests."""

from shared.byte_seal import Seal
from shared.snapshot.codec import Packed, SnapshotCodec
from shared.snapshot.identity import check_snapshot_id
from shared.snapshot.listing import passes, readable, unknown
from shared.snapshot.value import Snapshot, SnapshotInfo


class MemorySnapshotStore:
    """See `SnapshotStore`. Kept in their stored form, as any other store keeps them."""

    is_distributed = False

    def __init__(self, *, seal: Seal | None = None) -> None:
        self._codec = SnapshotCodec(seal)
        self._packed: dict[str, Packed] = {}

    async def save(self, snapshot: Snapshot) -> None:
        self._packed[check_snapshot_id(snapshot.info.id)] = self._codec.pack(snapshot)

    async def list_snapshots(
        self,
        *,
        agent: str | None = None,
        conversation_id: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[SnapshotInfo]:
        end = check_snapshot_id(before) if before is not None else "g"
        found: list[SnapshotInfo] = []
        for snapshot_id in sorted((each for each in self._packed if each < end), reverse=True):
            if len(found) == limit:
                break
            info = readable(self._codec, snapshot_id, self._packed[snapshot_id].info)
            if info is not None and passes(info, agent, conversation_id):
                found.append(info)
        return found

    async def load(self, snapshot_id: str) -> Snapshot:
        packed = self._packed.get(check_snapshot_id(snapshot_id))
        if packed is None:
            raise unknown(snapshot_id)
        return self._codec.unpack(snapshot_id, packed)

    async def delete(self, snapshot_id: str) -> bool:
        return self._packed.pop(check_snapshot_id(snapshot_id), None) is not None
