"""Snapshots in Redis: a hash each, in the partition of its conversation, and sorted sets as lists.

Of the ids in a set all scores are 0, so that they are sorted by name, which is by age.
"""

from heapq import merge
from typing import Any, Final

import structlog
from redis.asyncio import Redis

from shared.byte_seal import Seal
from shared.errors import AgentsError
from shared.identifier import PARTITIONS, check_id, partition_of
from shared.redis_client import Replicas, Script, checked_answers, script_source, translated_errors
from shared.redis_keys import Keys
from shared.snapshot.codec import Packed, SnapshotCodec
from shared.snapshot.identity import check_snapshot_id
from shared.snapshot.listing import passes, readable, unknown
from shared.snapshot.value import Snapshot, SnapshotInfo

log = structlog.get_logger()

_PAGE: Final = 50
"""Ids of one read from each set."""


class RedisSnapshotStore:
    """See `SnapshotStore`. Saving and deleting are one script each."""

    is_distributed = True

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        *,
        replicas: Replicas | None = None,
        seal: Seal | None = None,
    ) -> None:
        self._client = client
        self._keys = keys
        self._codec = SnapshotCodec(seal)
        self._save, self._delete = (
            Script(client, script_source("snapshot", name), replicas=replicas)
            for name in ("save", "delete")
        )

    async def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; see `SnapshotStore.save`."""
        info = snapshot.info
        check_snapshot_id(info.id)
        packed = self._codec.pack(snapshot)
        await self._save(self._keys_of(info), [info.id, packed.info.decode(), packed.body.decode()])

    async def list_snapshots(
        self,
        *,
        agent: str | None = None,
        conversation_id: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[SnapshotInfo]:
        """Merge the lists of all partitions; see `SnapshotStore.list_snapshots`."""
        found: list[SnapshotInfo] = []
        end = f"({check_snapshot_id(before)}" if before is not None else "+"
        indexes = self._indexes(agent, conversation_id)
        while len(found) < limit:
            ids = await self._ids(indexes, end, min(limit - len(found), _PAGE))
            for snapshot_id, stored in zip(ids, await self._infos(ids), strict=True):
                info = None if stored is None else readable(self._codec, snapshot_id, stored)
                if info is not None and passes(info, agent, conversation_id):
                    found.append(info)
            if not ids:
                break
            end = f"({ids[-1]}"
        return found

    async def load(self, snapshot_id: str) -> Snapshot:
        """Read a snapshot; see `SnapshotStore.load`."""
        key = self._keys.snapshot(check_snapshot_id(snapshot_id))
        with translated_errors():
            fields: Any = await self._client.hgetall(key)
        if not fields:
            raise unknown(snapshot_id)
        packed = Packed(*(_bytes(fields.get(name, "")) for name in ("info", "body")))
        return self._codec.unpack(snapshot_id, packed)

    async def delete(self, snapshot_id: str) -> bool:
        """Remove a snapshot; see `SnapshotStore.delete`."""
        [stored] = await self._infos([check_snapshot_id(snapshot_id)])
        keys = self._unlisted_keys(snapshot_id)
        if stored is not None:
            try:
                keys = self._keys_of(self._codec.unpack_info(snapshot_id, stored))
            except AgentsError as error:
                # What cannot be read can be removed all the same; a list that still names it
                # passes over it.
                log.warning("entry.unreadable", snapshot_id=snapshot_id, error=type(error).__name__)
        return bool(await self._delete(keys, [snapshot_id]))

    def _unlisted_keys(self, snapshot_id: str) -> list[str]:
        tag = self._keys.tag_of_snapshot(snapshot_id)
        return [self._keys.snapshot(snapshot_id), self._keys.snapshots(tag)]

    def _keys_of(self, info: SnapshotInfo) -> list[str]:
        tag = self._keys.tag_of_snapshot(info.id)
        keys = self._unlisted_keys(info.id)
        keys.append(self._keys.snapshots_of(tag, check_id(info.conversation_id, "conversation id")))
        if info.agent is not None:
            keys.append(self._keys.snapshots_by(tag, check_id(info.agent, "agent name")))
        return keys

    def _indexes(self, agent: str | None, conversation_id: str | None) -> list[str]:
        """The smallest lists that hold all that pass the filters."""
        if conversation_id is not None:
            tag = self._keys.tag(partition_of(check_id(conversation_id, "conversation id")))
            return [self._keys.snapshots_of(tag, conversation_id)]
        tags = map(self._keys.tag, range(PARTITIONS))
        if agent is not None:
            check_id(agent, "agent name")
            return [self._keys.snapshots_by(tag, agent) for tag in tags]
        return [self._keys.snapshots(tag) for tag in tags]

    async def _ids(self, indexes: list[str], end: str, limit: int) -> list[str]:
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for index in indexes:
                    pipeline.zrevrangebylex(index, end, "-", start=0, num=limit)
                answers: Any = checked_answers(await pipeline.execute(raise_on_error=False))
        return list(merge(*answers, reverse=True))[:limit]

    async def _infos(self, ids: list[str]) -> list[bytes | None]:
        if not ids:
            return []
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for snapshot_id in ids:
                    pipeline.hget(self._keys.snapshot(snapshot_id), "info")
                answers: Any = checked_answers(await pipeline.execute(raise_on_error=False))
        return [None if stored is None else _bytes(stored) for stored in answers]


def _bytes(stored: str) -> bytes:
    """What a field holds, also if it is not UTF-8: it is for the codec to say what is wrong."""
    return stored.encode("utf-8", "surrogateescape")
