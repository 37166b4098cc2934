"""Which workers live, and what the dead ones left behind."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from shared.codec import decode, encode
from shared.errors import CorruptEntryError
from shared.identifier import is_run_id
from shared.ledger.protocol import Sweep, WakeUp
from shared.ledger.redis_record import milliseconds, read_wake_up
from shared.redis_client import Script, checked_answers, script_source, translated_errors
from shared.redis_keys import Keys
from shared.run import WorkerInfo
from shared.settings import Settings

log = structlog.get_logger()

_REPORTS = 1000
"""Damaged entries that one process reports; after that there is nothing new to be said."""
_REMEMBERED_LEASES = 20
"""For how many leases' length a dead worker's id stays in the registry."""


class WorkerRegistry:
    """Heartbeats, and the sweep that acts on missing ones."""

    def __init__(self, client: Redis, keys: Keys, settings: Settings) -> None:
        self._client = client
        self._keys = keys
        self._settings = settings
        self._lease = milliseconds(settings.lease_s)
        self._reported: set[str] = set()
        self._beat, self._live, self._sweep = (
            Script(client, script_source("ledger", name)) for name in ("beat", "live", "sweep")
        )

    async def beat(self, worker: WorkerInfo) -> None:
        """See `RunLedger.beat`."""
        with translated_errors():
            await self._client.set(self._keys.worker(worker.id), encode(worker), px=self._lease)
        await self._beat(
            [self._keys.workers], [worker.id, self._lease * _REMEMBERED_LEASES, self._lease]
        )

    async def retire(self, worker_id: str) -> None:
        """See `RunLedger.retire`."""
        with translated_errors():
            await self._client.zrem(self._keys.workers, worker_id)
            await self._client.delete(self._keys.worker(worker_id))

    async def list_workers(self) -> list[WorkerInfo]:
        """See `RunLedger.list_workers`."""
        live = await self._live_ids()
        if not live:
            return []
        with translated_errors():
            async with self._client.pipeline(transaction=False) as pipeline:
                for worker_id in live:
                    pipeline.get(self._keys.worker(worker_id))
                announced = checked_answers(await pipeline.execute(raise_on_error=False))
        workers = []
        for worker_id, stored in zip(live, announced, strict=True):
            if stored is None:
                continue
            try:
                workers.append(_read_worker(worker_id, stored))
            except CorruptEntryError as error:
                log.error("entry.unreadable", worker_id=worker_id, error=type(error).__name__)
        return workers

    async def sweep(
        self, worker_id: str, agents: Collection[str], limit: int
    ) -> tuple[Sweep, list[str]]:
        """See `RunLedger.sweep`. Two round trips, whatever the number of partitions.

        The second value names what the sweep came upon and could not read: run ids, keys.
        """
        live = await self._live_ids()
        answers = checked_answers(await self._sweep_partitions(worker_id, live, agents, limit))
        found = [answer for answer in answers if answer is not None]
        damaged = [what for answer in found for what in answer[5]]
        overdue, suspects = (
            sorted(
                (float(since), run_id)
                for answer in found
                for run_id, since in answer[place]
                if is_run_id(run_id)
            )
            for place in (1, 4)
        )
        sweep = Sweep(
            reclaimed=tuple(self._wake_ups([run for answer in found for run in answer[0]])),
            overdue=tuple(run_id for _, run_id in overdue[:limit]),
            suspects=tuple(run_id for _, run_id in suspects),
            cancelled=tuple(run_id for answer in found for run_id in answer[2]),
            leased=frozenset(filter(is_run_id, (name for answer in found for name in answer[3]))),
        )
        self._report(damaged)
        return sweep, damaged

    def _wake_ups(self, reclaimed: Sequence[Any]) -> Iterator[WakeUp]:
        for run in reclaimed:
            try:
                yield read_wake_up(run)
            except CorruptEntryError:
                # It is ready again all the same; whoever leases it finds out what it lacks.
                self._report(run[:1])

    def _report(self, damaged: Iterable[str]) -> None:
        """Say it once: sweeps come upon the same things twice a second."""
        for what in damaged:
            if what not in self._reported and len(self._reported) < _REPORTS:
                self._reported.add(what)
                log.error("entry.unreadable", what=what)

    async def _live_ids(self) -> list[str]:
        return list(await self._live([self._keys.workers], [self._lease]))

    async def _sweep_partitions(
        self, worker_id: str, live: Sequence[str], agents: Collection[str], limit: int
    ) -> list[Any]:
        arguments = [
            limit,
            self._lease,
            milliseconds(self._settings.event_ttl_s),
            milliseconds(self._settings.retake_s),
            milliseconds(self._settings.run_ttl_s),
            self._settings.max_crashes - 1,
            len(live),
            *live,
            *agents,
        ]
        with translated_errors():
            try:
                return await self._call_partitions(worker_id, arguments)
            except NoScriptError:
                await self._client.script_load(self._sweep.source)
                return await self._call_partitions(worker_id, arguments)

    async def _call_partitions(self, worker_id: str, arguments: Sequence[Any]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for tag in self._keys.tags():
                keys = (f"{tag}:holders", f"{tag}:leases:{worker_id}", f"{tag}:cancelling")
                pipeline.execute_command(
                    "EVALSHA", self._sweep.digest, len(keys), *keys, tag, *arguments
                )
            answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, NoScriptError):
                raise answer
        return answers


def _read_worker(worker_id: str, stored: str) -> WorkerInfo:
    worker = decode(WorkerInfo, stored, where=f"The entry of worker {worker_id}")
    if worker.id != worker_id:
        raise CorruptEntryError(f"The entry of worker {worker_id} is that of another one.")
    return worker
