"""Gathering the evidence, when every run has ended or its time is over."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from benchmarks.chaos.evidence import Evidence, Harm
from benchmarks.chaos.journal import read_journal
from benchmarks.chaos.load import Notes
from benchmarks.chaos.plan import Spec
from benchmarks.chaos.recovery import read_log
from benchmarks.chaos.site import Site
from shared.redis_backend import build_redis_backend
from shared.redis_keys import Keys
from shared.run import RunStatus
from shared.settings import Settings

ALL: Final = 1_000_000
_EMPTY_AT_THE_END: Final = ("waiting", "interrupting", "ready", "suspects", "leases", "cancelling")
"""Indexes that name no run once every run has ended; see `shared.redis_keys`."""


async def gather(
    site: Site, specs: Mapping[str, Spec], notes: Notes, harms: Sequence[Harm]
) -> Evidence:
    """Read everything that was left behind."""
    backend = build_redis_backend(site.settings)
    try:
        runs = await backend.ledger.list_runs(limit=ALL)
        histories = {
            history_id: await backend.conversations.list_messages(history_id)
            for history_id in {run.history_id for run in runs}
        }
    finally:
        await backend.aclose()
    logs = [entry for path in site.log_paths for entry in await asyncio.to_thread(read_log, path)]
    return Evidence(
        specs=specs,
        told=notes.told,
        cancels=notes.cancels,
        outcomes=notes.outcomes,
        runs=list(reversed(runs)),
        histories=histories,
        executions=await asyncio.to_thread(read_journal, site.journal),
        sightings=notes.sightings,
        harms=harms,
        logs=logs,
        leftovers=await find_leftovers(site.settings),
    )


async def find_leftovers(settings: Settings) -> list[str]:
    """What stands in indexes that should be empty, straight from Redis."""
    keys = Keys(settings.key_prefix)
    found: list[str] = []
    client: Any = Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
    async with client:
        for tag in keys.tags():
            for status in (RunStatus.QUEUED, RunStatus.RUNNING):
                ids = await client.zrange(keys.status(tag, status), 0, -1)
                found += [f"{run_id} has the status {status.value}" for run_id in ids]
            async for key in client.scan_iter(match=_literally(tag) + ":*", count=1000):
                what = key.removeprefix(tag + ":").partition(":")[0]
                if what in _EMPTY_AT_THE_END:
                    found.append(key)
                if what == "conversation" and (active := await client.hget(key, "active")):
                    found.append(f"{key} is held by {active}")
    return found


def _literally(text: str) -> str:
    """Redis patterns know braces as themselves, but a prefix may hold what they do not."""
    return "".join(f"\\{each}" if each in "*?[]\\" else each for each in text)
