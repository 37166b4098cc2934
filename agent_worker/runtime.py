"""The runtime: the async core of a worker. One event loop, any number of runs on it."""

import asyncio
import contextvars
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog

from agent_worker.announcement import announce, new_worker_id
from agent_worker.background import Background, repeat
from agent_worker.capacity import Capacity
from agent_worker.cards import LOOK_S, Cards
from agent_worker.definition import AgentDefinition
from agent_worker.execution.executor import Executor
from agent_worker.newer import NEWER_S, NewerRuns
from shared.backend import Backend
from shared.dispatch.protocol import Dispatcher
from shared.errors import (
    BrokerUnavailableError,
    CorruptEntryError,
    SealError,
    SealKeyError,
    StoreUnavailableError,
    UnavailableError,
    UnknownRunError,
)
from shared.keeping.tidying import tidy
from shared.ledger.protocol import Sweep, WakeUp
from shared.run import Lease, WorkerInfo
from shared.settings import Settings

STOP_MARGIN_S: Final = 2.0
"""How long, after the grace, the last writes of all runs may take before they are dropped."""
DROP_S: Final = 0.5
"""How long runs that are dropped may take to notice."""
AVOID_S: Final = 5.0
"""How long a run is left to others after this worker lacked the key to open it."""
RETIRE_S: Final = 0.5
"""How long a worker that stops waits for the ledger to take its farewell."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Active:
    """A run that is being executed."""

    executor: Executor
    task: asyncio.Task[None]


class Runtime:
    """Leases runs and executes them, beats, sweeps, listens for cancels, and hands over at its end.

    - A run is executed at most once at a time in here, however often it is rung for.
    - A worker that could not beat for a lease's length goes on: whether its runs were taken over is
      not for it to guess. If they were, its next write is refused, or its next sweep tells, and the
      run is dropped; if nobody was there to take them, nothing is lost.
    - A lease that the ledger has under this worker's name and that nobody here works on (the answer
      to `lease` was lost, or the store was away for longer than a run would wait) is taken up again
      by the sweep.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        dispatcher: Dispatcher,
        agents: Mapping[str, AgentDefinition],
        worker_id: str | None = None,
    ) -> None:
        self.worker_id = worker_id or new_worker_id()
        self._settings = settings
        self._backend = backend
        self._ledger = backend.ledger
        self._dispatcher = dispatcher
        self._agents = dict(agents)
        self._started_at = datetime.now(UTC)
        self._capacity = Capacity(settings.concurrency)
        self._background = Background()
        self._active: dict[str, _Active] = {}
        self._leasing: set[str] = set()
        self._avoided: dict[str, float] = {}  # runs that cannot be opened here, and until when
        self._beaten_at = 0.0
        self._changed = asyncio.Event()
        self._is_stopping = False
        self._stopping: asyncio.Task[None] | None = None

    @property
    def active(self) -> frozenset[str]:
        """Ids of the runs that are being executed."""
        return frozenset(self._active)

    @property
    def info(self) -> WorkerInfo:
        """The worker as it announces itself."""
        return announce(
            self.worker_id,
            self._agents.values(),
            self._settings,
            started_at=self._started_at,
            active_runs=len(self._active),
        )

    async def start(self) -> None:
        """Announce the worker, waiting for the store if need be, and begin to beat and sweep."""
        settings = self._settings
        await self._prepare()
        await self._announce()
        for risk in await self._backend.find_risks():
            log.warning("store.unsafe", risk=risk.name, advice=risk.advice)
        start = self._background.start
        start("heartbeat", repeat(self._beat, settings.heartbeat_s, event="heartbeat.failed"))
        start("sweep", repeat(self._sweep, settings.sweep_s, event="sweep.failed"))
        newer = NewerRuns(self._ledger, self._agents.keys())
        start("newer", repeat(newer.look, NEWER_S, event="newer.failed"))
        if self._backend.directory is not None:
            start("tidy", repeat(self._tidy, settings.tidy_s, event="tidy.failed"))
        cards = Cards(self._backend.cards, self._agents.values())
        if settings.announce_prompts:
            start("cards", repeat(cards.keep, LOOK_S, event="cards.failed"))
        start("control", repeat(self._listen, settings.heartbeat_s, event="control.failed"))
        log.info("worker.started", worker_id=self.worker_id, agents=sorted(self._agents))

    async def wait_failed(self) -> BaseException:
        """Wait until a defect keeps the worker from going on, and return it."""
        return await self._background.wait_failed()

    async def wake(self, run_id: str) -> bool:
        """Execute a run, if it is for this worker to do.

        Waits while the worker is full: whoever rings feels the pressure. Returns True once the run
        is leased and being executed, False when it was taken, is unknown, a suspect or not served
        here, when the store did not answer, and at once when the worker stops. A sweep finds what
        is left.
        """
        if self._holds(run_id) or not await self._capacity.acquire():
            return False
        try:
            return await self._take(run_id)
        except UnavailableError as error:
            log.warning("lease.failed", for_run=run_id, reason=str(error))
            return False

    def stop_taking(self) -> None:
        """Take no further run; every `wake` that waits returns."""
        self._is_stopping = True
        self._capacity.close()

    def hurry(self) -> None:
        """Hand every run over now, those with running tools included."""
        for active in self._active.values():
            active.executor.hand_over(0)

    async def shutdown(self, grace_s: float) -> None:
        """Hand every run over at its next safe point and end the worker.

        Tools that are running may go on for `grace_s`. Takes `STOP_MARGIN_S` more at most (and
        `DROP_S` and `RETIRE_S`); what is not handed over by then is dropped, and found once the
        ledger misses this worker. May be called again; all calls return at the end.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(grace_s), name="shutdown")
        await asyncio.shield(self._stopping)

    def _holds(self, run_id: str) -> bool:
        return run_id in self._active or run_id in self._leasing

    async def _take(self, run_id: str, *, takes_suspect: bool = False) -> bool:
        """Lease a run into the slot that the caller acquired; the slot is free again if that fails.

        The ledger gives a worker the lease that it has once more. So the run must not be held here,
        or it would be executed twice.
        """
        lease: Lease | None = None
        try:
            if not (self._is_stopping or self._holds(run_id) or self._avoids(run_id)):
                lease = await self._lease(run_id, takes_suspect=takes_suspect)
        finally:
            if lease is None:
                self._capacity.release()
        if lease is None:
            return False
        self._execute(lease)
        return True

    async def _lease(self, run_id: str, *, takes_suspect: bool) -> Lease | None:
        self._leasing.add(run_id)
        try:
            return await self._ledger.lease(
                run_id, self.worker_id, agents=self._agents.keys(), takes_suspect=takes_suspect
            )
        except CorruptEntryError as error:
            # Sweeps come upon it again and again; the runs behind it must not wait for it.
            log.error("entry.unreadable", for_run=run_id, error=type(error).__name__)
            return None
        except SealError as error:
            # Its ledger has failed it, or given it back; see `shared.sealing.failure`.
            log.error("run.sealed", for_run=run_id, reason=str(error))
            if isinstance(error, SealKeyError):
                self._avoid(run_id)
            return None
        finally:
            self._leasing.discard(run_id)
            self._changed.set()

    def _avoid(self, run_id: str) -> None:
        """Leave a run to workers that may have its key, or it would come back here at once."""
        now = time.monotonic()
        self._avoided = {name: until for name, until in self._avoided.items() if until > now}
        self._avoided[run_id] = now + AVOID_S

    def _avoids(self, run_id: str) -> bool:
        return self._avoided.get(run_id, 0.0) > time.monotonic()

    def _execute(self, lease: Lease) -> None:
        executor = Executor(
            lease,
            self._agents[lease.run.agent],
            backend=self._backend,
            dispatcher=self._dispatcher,
            settings=self._settings,
        )
        # In a context of its own: what rang may be another run, with its ids bound for its log.
        task = asyncio.create_task(
            executor.run(), name=f"run:{lease.run.id}", context=contextvars.Context()
        )
        self._active[lease.run.id] = _Active(executor, task)
        task.add_done_callback(partial(self._on_end, lease.run.id))
        if self._is_stopping:
            executor.hand_over(0)

    def _on_end(self, run_id: str, task: asyncio.Task[None]) -> None:
        if self._active.pop(run_id).executor.is_declined:
            self._avoid(run_id)
        self._capacity.release()
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease is still this worker's, so the next sweep makes it try again.
            log.critical("run.unfinished", run_id=run_id, exc_info=error)

    async def _prepare(self) -> None:
        while True:
            try:
                return await self._backend.prepare()
            except UnavailableError as error:
                log.warning("store.unprepared", reason=str(error))
            await asyncio.sleep(self._settings.heartbeat_s)

    async def _announce(self) -> None:
        while True:
            try:
                return await self._beat()
            except UnavailableError as error:
                log.warning("heartbeat.failed", reason=str(error))
            await asyncio.sleep(self._settings.heartbeat_s)

    async def _beat(self) -> None:
        # A connection that hangs may do so for longer than a lease; the next beat gets another one.
        limit_s = self._settings.lease_s / 3
        try:
            async with asyncio.timeout(limit_s):
                await self._ledger.beat(self.info)
        except TimeoutError as error:
            raise StoreUnavailableError(f"The store took no beat for {limit_s:g} s.") from error
        self._beaten_at = time.monotonic()

    async def _tidy(self) -> None:
        settings = self._settings
        done = await tidy(
            self._backend, idle_s=settings.conversation_idle_s, retention=settings.retention
        )
        if done:
            log.info("conversations.tidied", **{what: len(ids) for what, ids in vars(done).items()})

    async def _listen(self) -> None:
        topic = self._ledger.control_topic(self.worker_id)
        async with self._ledger.notifications.listen(topic) as hints:
            async for run_id in hints:
                await self._look_up_cancel(run_id)

    async def _look_up_cancel(self, run_id: str) -> None:
        """Follow a hint that a run shall stop.

        The ledger is the truth; what it does not answer now, the next sweep asks again.
        """
        active = self._active.get(run_id)
        if active is None:
            return
        try:
            run = await self._ledger.get(run_id)
        except (UnavailableError, UnknownRunError):
            return
        if run.cancel_requested and run.fencing_token == active.executor.fencing_token:
            active.executor.cancel()

    async def _sweep(self) -> None:
        if self._is_stopping:
            return
        if time.monotonic() - self._beaten_at > self._settings.lease_s / 2:
            await self._beat()  # after a stall of this process, it would find itself dead
        before = dict(self._active)
        found = await self._ledger.sweep(
            self.worker_id, agents=self._agents.keys(), limit=self._capacity.free
        )
        for run_id in found.cancelled:
            if (active := self._active.get(run_id)) is not None:
                active.executor.cancel()
        self._drop_lost(before, found)
        unattended = found.leased - before.keys() - self._active.keys() - self._leasing
        # All at once: one after the other, on a busy loop, the last would wait for many seconds,
        # and so would the next sweep, on which the runs of the next dead worker depend.
        taking = (
            self._take(run_id)
            for run_id in (*unattended, *found.overdue)
            if self._capacity.try_acquire()
        )
        ended = await asyncio.gather(
            self._ring(found.reclaimed),
            *taking,
            self._take_suspect(found.suspects),
            return_exceptions=True,
        )
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    async def _take_suspect(self, suspects: Sequence[str]) -> None:
        """Take one run that may be what its workers died of, unless there is one in here already.

        All runs of a worker crash with the one that kills it. Together again they would crash
        together again; one by one, the next death is that of the culprit.
        """
        for run_id in suspects:
            if any(active.executor.is_suspect for active in self._active.values()):
                return
            if self._capacity.try_acquire():
                await self._take(run_id, takes_suspect=True)

    def _drop_lost(self, before: Mapping[str, _Active], found: Sweep) -> None:
        """Drop runs that were leased when the sweep was asked for and are not in its answer."""
        for run_id in before.keys() - found.leased:
            active = self._active.get(run_id)
            if active is before[run_id]:
                active.executor.drop()

    async def _ring(self, wake_ups: Sequence[WakeUp]) -> None:
        if not wake_ups:
            return
        log.info("runs.reclaimed", count=len(wake_ups))
        try:
            await self._dispatcher.ring(wake_ups)
        except BrokerUnavailableError as error:
            log.warning("ring.failed", count=len(wake_ups), reason=str(error))  # they come overdue

    async def _stop(self, grace_s: float) -> None:
        self.stop_taking()
        log.info("worker.stopping", worker_id=self.worker_id, active_runs=len(self._active))
        for active in self._active.values():
            active.executor.hand_over(grace_s)
        try:
            async with asyncio.timeout(grace_s + STOP_MARGIN_S):
                await self._wait_idle()
        except TimeoutError:
            await self._drop_all()
        await self._background.aclose()
        await self._retire()
        log.info("worker.stopped", worker_id=self.worker_id)

    async def _wait_idle(self) -> None:
        while self._active or self._leasing:
            self._changed.clear()
            await self._changed.wait()

    async def _drop_all(self) -> None:
        tasks = [active.task for active in self._active.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=DROP_S)

    async def _retire(self) -> None:
        try:
            async with asyncio.timeout(RETIRE_S):
                await self._ledger.retire(self.worker_id)
        except (UnavailableError, TimeoutError) as error:
            log.warning("retire.failed", worker_id=self.worker_id, error=type(error).__name__)
