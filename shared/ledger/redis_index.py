"""Finding runs and conversations in Redis: reads over the indexes that the scripts keep."""

from collections.abc import Collection, Sequence

import structlog
from redis.asyncio import Redis

from shared.errors import CorruptEntryError
from shared.identifier import is_run_id
from shared.ledger.redis_record import milliseconds, read_run
from shared.redis_client import checked_answers, translated_errors
from shared.redis_keys import Keys
from shared.run import Run, RunStatus

log = structlog.get_logger()

_Place = tuple[float, str]
"""Where a run stands in a list: time of creation in ms, then id."""


class RunIndex:
    """Lists runs, newest first. Entries whose record has expired are passed over."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def list_runs(
        self,
        conversation_id: str | None,
        statuses: Collection[RunStatus],
        agent: str | None,
        limit: int,
        before: Run | None,
    ) -> list[Run]:
        """See `RunLedger.list_runs`."""
        indexes = self._indexes(conversation_id, statuses)
        place: _Place | None = None
        if before is not None:
            place = (milliseconds(before.created_at.timestamp()), before.id)
        found: list[Run] = []
        while len(found) < limit:
            places = await self._places(indexes, limit, place)
            if not places:
                break
            found += [
                run
                for run in await self._records(
                    [run_id for _, run_id in places if is_run_id(run_id)]
                )
                if run.status in statuses and (agent is None or run.agent == agent)
            ]
            place = places[-1]
        return found[:limit]

    async def list_conversations(self, limit: int) -> list[str]:
        """See `RunLedger.list_conversations`."""
        keys = [self._keys.conversations(tag) for tag in self._keys.tags()]
        places = await self._places(keys, limit, None)
        return [conversation_id for _, conversation_id in places]

    async def find_newer(self, agents: Collection[str], version: int) -> dict[str, int]:
        """See `RunLedger.find_newer`."""
        waiting = [
            (key, int(needs))
            for tag, names in zip(self._keys.tags(), await self._newer_names(), strict=True)
            for name in names
            for needs, _, agent in [name.partition("!")]
            if agent in agents and needs.isdecimal() and int(needs) > version
            for key in (self._keys.ready(tag, name), self._keys.suspects(tag, name))
        ]
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for key, _ in waiting:
                    pipeline.zrange(key, 0, 0)
                oldest = await pipeline.execute()
        return {
            run_id: needs
            for (_, needs), run_ids in zip(waiting, oldest, strict=True)
            for run_id in run_ids
        }

    async def _newer_names(self) -> list[list[str]]:
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for tag in self._keys.tags():
                    pipeline.smembers(self._keys.newer(tag))
                return [sorted(names) for names in await pipeline.execute()]

    def _indexes(self, conversation_id: str | None, statuses: Collection[RunStatus]) -> list[str]:
        if conversation_id is not None:
            return [self._keys.runs(conversation_id)]
        tags = self._keys.tags()
        return [self._keys.status(tag, status) for tag in tags for status in statuses]

    async def _places(
        self, indexes: Sequence[str], limit: int, before: _Place | None
    ) -> list[_Place]:
        """The newest `limit` entries of all indexes together that stand behind `before`."""
        highest = f"({before[0]:.0f}" if before else "+inf"
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for key in indexes:
                    if before is not None:
                        # Entries of its very millisecond may stand on both of its sides.
                        pipeline.zrangebyscore(key, before[0], before[0], withscores=True)
                    pipeline.zrevrangebyscore(
                        key, highest, "-inf", start=0, num=limit, withscores=True
                    )
                pages = checked_answers(await pipeline.execute(raise_on_error=False))
        places = {(float(score), member) for page in pages for member, score in page or ()}
        behind = [place for place in places if before is None or place < before]
        return sorted(behind, reverse=True)[:limit]

    async def _records(self, run_ids: Sequence[str]) -> list[Run]:
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for run_id in run_ids:
                    pipeline.hgetall(self._keys.run(run_id))
                records = checked_answers(await pipeline.execute(raise_on_error=False))
        runs = []
        for run_id, record in zip(run_ids, records, strict=True):
            if not record:
                continue
            try:
                runs.append(read_run(run_id, record))
            except CorruptEntryError as error:
                log.error("entry.unreadable", run_id=run_id, error=type(error).__name__)
        return runs


def ready_names(agents: Collection[str], version: int) -> list[str]:
    """What the indexes of ready runs are called that a worker of this version looks at.

    The runs of each agent that every worker can execute, then those that need a newer one, up to
    this version.
    """
    return [*agents, *(f"{needs}!{agent}" for needs in range(2, version + 1) for agent in agents)]
