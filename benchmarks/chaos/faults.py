"""The faults, carried out: each in a task of its own, on whatever can be harmed when it is due."""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from agent_client import AsyncAgentClient
from benchmarks.chaos.broker import COPIES
from benchmarks.chaos.evidence import Harm
from benchmarks.chaos.schedule import Fault, FaultKind
from benchmarks.chaos.site import Site, Worker
from shared.dispatch.celery import CeleryDispatcher
from shared.errors import AgentsError
from shared.ledger.protocol import WakeUp

LEAST_UP: Final = 2
"""A worker is harmed when so many are up: then one more is there (but see KILL_ALL)."""
LOOK_S: Final = 0.05
EXIT_S: Final = 60.0
RUNG_AGAIN: Final = 20


class Faults:
    """Carries a schedule out and notes what was done. What is due late comes late."""

    def __init__(self, site: Site, client: AsyncAgentClient, *, seed: int) -> None:
        self.harms: list[Harm] = []
        self._site = site
        self._client = client
        self._chance = random.Random(f"rings {seed}")  # noqa: S311 - the same for the same seed
        self._choosing = asyncio.Lock()
        self._store = asyncio.Lock()
        self._broker = asyncio.Lock()
        self._is_over = False
        self._deeds: dict[FaultKind, Callable[[Fault], Awaitable[None]]] = {
            FaultKind.KILL: self._kill,
            FaultKind.KILL_ALL: self._kill_all,
            FaultKind.FREEZE: self._freeze,
            FaultKind.TERMINATE: self._terminate,
            FaultKind.STORE_RESTART: self._restart_store,
            FaultKind.STORE_STALL: self._stall_store,
            FaultKind.STORE_SILENCE: self._stall_store,
            FaultKind.BROKER_RESTART: self._restart_broker,
            FaultKind.DROP: self._drop,
            FaultKind.DUPLICATE: self._duplicate,
            FaultKind.RING_AGAIN: self._ring_again,
        }

    async def carry_out(self, schedule: Sequence[Fault], seconds: float) -> None:
        """Carry out what is due within `seconds`; returns when all is mended again."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._call_off(seconds))
            for fault in schedule:
                group.create_task(self._carry_out(fault, began))

    async def _call_off(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._is_over = True

    async def _carry_out(self, fault: Fault, began: float) -> None:
        await asyncio.sleep(began + fault.at - time.monotonic())
        await self._deeds[fault.kind](fault)

    def _note(self, kind: FaultKind, at: float, **fields: object) -> None:
        self.harms.append(Harm(kind, at, time.time(), **fields))  # type: ignore[arg-type]

    # --- workers ----------------------------------------------------------------------------------

    async def _choose(self, fault: Fault) -> Worker | None:
        """A worker that is up, once enough of them are; None when the time is over before."""
        async with self._choosing:
            while not self._is_over:
                up = [worker for worker in self._site.workers if worker.state == "up"]
                if len(up) >= min(LEAST_UP, len(self._site.workers)):
                    worker = up[int(fault.choice * len(up))]
                    worker.state = fault.kind.value
                    return worker
                await asyncio.sleep(LOOK_S)  # another fault, or a start, has to end first
        return None

    async def _kill(self, fault: Fault) -> None:
        worker = await self._choose(fault)
        if worker is not None:
            await self._kill_one(worker, fault)

    async def _kill_all(self, fault: Fault) -> None:
        async with self._choosing:
            up = [worker for worker in self._site.workers if worker.state == "up"]
            for worker in up:
                worker.state = fault.kind.value
        await asyncio.gather(*(self._kill_one(worker, fault) for worker in up))

    async def _kill_one(self, worker: Worker, fault: Fault) -> None:
        worker_id = await worker.read_id()
        at = time.time()
        await asyncio.to_thread(worker.process.kill)
        self._note(fault.kind, at, worker_id=worker_id)
        await asyncio.sleep(fault.seconds)
        await worker.start()

    async def _freeze(self, fault: Fault) -> None:
        worker = await self._choose(fault)
        if worker is None:
            return
        worker_id = await worker.read_id()
        at = time.time()
        worker.process.freeze()
        await asyncio.sleep(fault.seconds)
        worker.process.thaw()
        self._note(fault.kind, at, worker_id=worker_id)
        worker.state = "up"

    async def _terminate(self, fault: Fault) -> None:
        worker = await self._choose(fault)
        if worker is None:
            return
        worker_id = await worker.read_id()
        at = time.time()
        worker.process.terminate()
        try:
            await asyncio.to_thread(worker.process.wait, EXIT_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
        self._note(fault.kind, at, worker_id=worker_id, exit_s=time.time() - at)
        await asyncio.sleep(fault.seconds)
        await worker.start()

    # --- store and broker -------------------------------------------------------------------------

    async def _restart_store(self, fault: Fault) -> None:
        async with self._store:
            at = time.time()
            await asyncio.to_thread(self._site.store.kill)
            self._site.store_is_away.set()
            await asyncio.sleep(fault.seconds)
            self._site.store_is_away.clear()
            await asyncio.to_thread(self._site.store.start)
            self._note(fault.kind, at)

    async def _stall_store(self, fault: Fault) -> None:
        async with self._store:
            at = time.time()
            os.kill(self._site.store.pid, signal.SIGSTOP)
            self._site.store_is_away.set()
            await asyncio.sleep(fault.seconds)
            self._site.store_is_away.clear()
            os.kill(self._site.store.pid, signal.SIGCONT)
            self._note(fault.kind, at)

    async def _restart_broker(self, fault: Fault) -> None:
        broker, relay = self._site.broker, self._site.relay
        async with self._broker:
            at = time.time()
            if broker is not None:
                await asyncio.to_thread(broker.kill)
            if relay is not None:
                await asyncio.to_thread(relay.cut)
            self._site.broker_is_away.set()
            await asyncio.sleep(fault.seconds)
            self._site.broker_is_away.clear()
            if broker is not None:
                await asyncio.to_thread(broker.start)
            if relay is not None:
                relay.open()
            self._note(fault.kind, at)

    async def _drop(self, fault: Fault) -> None:
        at = time.time()
        count = await asyncio.to_thread(self._site.queue.rob, fault.seconds, 0)
        self._note(fault.kind, at, count=count)

    async def _duplicate(self, fault: Fault) -> None:
        at = time.time()
        count = await asyncio.to_thread(self._site.queue.rob, fault.seconds, COPIES)
        self._note(fault.kind, at, count=count * (COPIES - 1))

    async def _ring_again(self, fault: Fault) -> None:
        at = time.time()
        dispatcher = CeleryDispatcher(self._site.settings)
        try:
            runs = await self._client.runs(limit=100)
            chosen = self._chance.sample(runs, min(RUNG_AGAIN, len(runs)))
            await dispatcher.ring([WakeUp(run.id, run.agent, run.priority) for run in chosen])
        except AgentsError:
            return  # the store or the broker is being harmed as well
        finally:
            await dispatcher.aclose()
        self._note(fault.kind, at, count=len(chosen))
