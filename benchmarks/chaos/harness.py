"""One run of the harness, from the first worker to the verdict."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console

from agent_client import AsyncAgentClient
from benchmarks.chaos.evidence import Harm
from benchmarks.chaos.faults import Faults
from benchmarks.chaos.gather import gather
from benchmarks.chaos.load import Load
from benchmarks.chaos.plan import Conversation, make_plan
from benchmarks.chaos.report import Report, Setup
from benchmarks.chaos.schedule import make_schedule
from benchmarks.chaos.site import Site, open_site
from benchmarks.chaos.verify import verify
from benchmarks.chaos.view import View
from benchmarks.chaos.watching import Elsewhere
from benchmarks.replay import sound_row
from shared.log import configure_logging
from tests.model_server import Recording, load_recordings, validate

CLIENTS: Final = 3
"""Callers share these, as the processes of an app server would."""
SETTLE_S: Final = 120.0
"""How long, after the last fault, runs may take to end: what waits in line takes a while."""
LAST_S: Final = 10.0
"""How long watchers may take to say what they saw once their runs have ended."""


def run_harness(
    setup: Setup,
    folder: Path,
    *,
    broker_url: str | None,
    recordings: Sequence[Recording],
    console: Console,
) -> Report:
    """Start the system, load and harm it, wait for the end, and verify what is left."""
    plan = make_plan(setup.seed, setup.runs, setup.minutes * 60, recordings)
    played = _write_recordings(folder, recordings) if recordings else None
    with open_site(folder, workers=setup.workers, broker_url=broker_url, recordings=played) as site:
        return asyncio.run(_run(setup, site, plan, console))


def load_sound_recordings(path: Path) -> list[Recording]:
    """The recordings of a file that can be replayed exactly."""
    return [recording for recording in load_recordings(path) if not validate(recording)]


async def _run(setup: Setup, site: Site, plan: Sequence[Conversation], console: Console) -> Report:
    began = time.monotonic()
    seconds = setup.minutes * 60
    async with AsyncExitStack() as stack:
        log = stack.enter_context((site.folder / "callers.log").open("a"))
        configure_logging(site.settings, log)
        clients = [
            await stack.enter_async_context(AsyncAgentClient(site.settings)) for _ in range(CLIENTS)
        ]
        elsewhere = Elsewhere(site.environment, site.folder / "watcher.log")
        stack.push_async_callback(elsewhere.aclose)
        load = Load(site, clients, elsewhere, seed=setup.seed)
        faults = Faults(site, clients[0], seed=setup.seed)
        view = View(site, load, faults, runs=setup.runs)
        await stack.enter_async_context(view.shown(console))
        await asyncio.gather(elsewhere.start(), *(worker.start() for worker in site.workers))
        view.phase = "under fire"
        schedule = make_schedule(
            setup.seed,
            seconds,
            lease_s=site.settings.lease_s,
            redis_timeout_s=site.settings.redis_timeout_s,
        )
        holding = asyncio.create_task(load.hold(plan), name="load")
        await faults.carry_out(schedule, seconds)
        view.phase = "settling"
        load.stop_waiting()
        deadline = time.monotonic() + SETTLE_S
        await asyncio.wait({holding}, timeout=SETTLE_S)
        if holding.done():
            holding.result()  # a defect of the harness is no verdict
        else:
            holding.cancel()  # somebody waits for a run that does not end; the verdict says so
        await load.settle(max(deadline - time.monotonic(), LAST_S))
        load.notes.sightings += await elsewhere.finish(LAST_S)
        view.phase = "verifying"
        _write_harms(site.folder, faults.harms)
        specs = {spec.id: spec for conversation in plan for spec in conversation.specs}
        evidence = await gather(site, specs, load.notes, faults.harms)
    return Report.of(setup, evidence, verify(evidence), time.monotonic() - began)


def _write_recordings(folder: Path, recordings: Sequence[Recording]) -> Path:
    path = folder / "recordings.jsonl"
    lines = (json.dumps(sound_row(recording)) + "\n" for recording in recordings)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def _write_harms(folder: Path, harms: Sequence[Harm]) -> None:
    """Beside the logs, for whoever wants to know what happened when."""
    lines = (json.dumps(asdict(harm)) + "\n" for harm in sorted(harms, key=lambda each: each.at))
    (folder / "harms.jsonl").write_text("".join(lines))
