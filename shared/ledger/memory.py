"""The run ledger in the memory of this process: for local mode and fast tests."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from types import MappingProxyType
from typing import Final

from shared.codec import stored_form
from shared.directory.fault import busy
from shared.directory.record import totals_of
from shared.directory.record_table import RecordTable
from shared.errors import (
    ConversationBusyError,
    ConversationInactiveError,
    FencedError,
    InvalidIdError,
    RollbackRequestedError,
)
from shared.event import DeltaEvent, StatusEvent
from shared.identifier import is_alone, partition_of_history, partition_of_run
from shared.ledger.protocol import Cancellation, Submission, Sweep, WakeUp
from shared.memory.clock import Clock, utc_now
from shared.memory.event_log import EventLog
from shared.memory.run_table import RunTable
from shared.memory.waiting_line import WaitingLine
from shared.notification.memory import MemoryNotifications
from shared.run import (
    TRANSITIONS,
    BusyPolicy,
    CancelResult,
    Ending,
    Lease,
    NewRun,
    Run,
    RunStatus,
    WorkerInfo,
)
from shared.settings import Settings
from shared.version import FORMAT_VERSION

_NAMED_SUSPECTS: Final = 16
"""How many a sweep names; a worker takes one."""
_NO_TOTALS: Final[Mapping[str, int]] = MappingProxyType({})
_INTERRUPTING: Final = frozenset({BusyPolicy.INTERRUPT, BusyPolicy.ROLLBACK})


@dataclass(frozen=True, slots=True)
class _Beat:
    """A worker's last heartbeat; after an outage its lease lasts from a later time."""

    worker: WorkerInfo
    at: datetime
    lasts_from: datetime


class MemoryRunLedger:
    """Runs of one process: the reference for what every other ledger does.

    Not safe to use from several threads or event loops: between two awaits of its only loop, each
    method is atomic because nothing else runs.
    """

    def __init__(
        self,
        notifications: MemoryNotifications,
        settings: Settings,
        *,
        clock: Clock = utc_now,
        records: RecordTable | None = None,
    ) -> None:
        self._notifications = notifications
        self._clock = clock
        self._records = records if records is not None else RecordTable(clock)
        self._lease = timedelta(seconds=settings.lease_s)
        self._pickup = timedelta(seconds=settings.pickup_s)
        self._retake = timedelta(seconds=settings.retake_s)
        self._runs = RunTable(
            run_ttl_s=settings.run_ttl_s,
            idempotency_ttl_s=settings.idempotency_ttl_s,
            clock=clock,
        )
        self._lines: dict[str, WaitingLine] = defaultdict(WaitingLine)  # by history
        self._token = 0  # of all conversations, so that none is given away twice
        self._repeated: set[str] = set()  # submitted again, so that somebody else counts on them
        self._ready: dict[str, datetime] = {}  # when a sweep takes the run without a ring
        self._leased: dict[str, dict[str, datetime]] = {}  # by worker: its runs, and since when
        self._beats: dict[str, _Beat] = {}
        self._events = EventLog(settings.event_ttl_s, clock)
        self._strikes_of_suspect = settings.max_crashes - 1

    @property
    def is_distributed(self) -> bool:
        return False

    @property
    def notifications(self) -> MemoryNotifications:
        return self._notifications

    def topic(self, run_id: str) -> str:
        return f"run:{run_id}"

    def control_topic(self, worker_id: str) -> str:
        return f"control:{worker_id}"

    async def submit(self, new: NewRun) -> Submission:
        if partition_of_run(new.id) != partition_of_history(new.history_id):
            raise InvalidIdError(
                f"The run id {new.id} names another partition than its conversation lies in; make "
                "it with new_run_id(partition_of(conversation_id))."
            )
        new = stored_form(new)
        self._forget_expired()
        known = self._runs.find_repeated(new)
        if known is not None:
            self._repeated.add(known.id)
            return Submission(run=known, is_new=False, is_ready=known.id in self._ready)
        if self._records.is_closed(new.conversation_id):
            raise ConversationInactiveError(
                f"Conversation {new.conversation_id} was deactivated and takes no further runs; "
                "open its session again (client.managed.open), which begins a new one."
            )
        line = self._lines[new.history_id]
        if line.active is not None and new.on_busy is BusyPolicy.REJECT:
            raise ConversationBusyError(
                f"Run {line.active} holds conversation {new.conversation_id}; wait for its end, or "
                "submit with another on_busy policy.",
                run_id=line.active,
            )
        run = self._runs.add(new)
        self._records.touch(new.conversation_id)
        self._announce(run)
        interrupted = self._stand_in_line(run, line)
        return Submission(run, is_new=True, is_ready=run.id in self._ready, interrupted=interrupted)

    async def withdraw(self, run_id: str) -> bool:
        run = self._find(run_id)
        if run is None:
            return True
        if run.status is not RunStatus.QUEUED or run.attempts > 0 or run.id in self._repeated:
            return False
        self._pass_on(run)
        self._runs.withdraw(run)
        self._clean_up(run)
        return True

    async def get(self, run_id: str) -> Run:
        self._forget_expired()
        return self._runs.get(run_id)

    async def list_runs(
        self,
        *,
        conversation_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        agent: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Run]:
        self._forget_expired()
        passing = (
            run
            for run in self._runs.newest_first(before=before)
            if (conversation_id is None or run.conversation_id == conversation_id)
            and (status is None or run.status in status)
            and (agent is None or run.agent == agent)
        )
        return list(islice(passing, limit))

    async def list_conversations(self, *, limit: int = 50) -> list[str]:
        return list(islice(self._runs.conversations(), limit))

    async def lease(
        self,
        run_id: str,
        worker_id: str,
        *,
        agents: Collection[str],
        takes_suspect: bool = True,
        version: int = FORMAT_VERSION,
    ) -> Lease | None:
        run = self._find(run_id)
        if run is None:
            return None
        if run.id in self._leased.get(worker_id, ()):
            # What this worker sent under the former token, and gave up, must not come in now.
            run = run.model_copy(update={"fencing_token": self._give_token()})
            self._runs.replace(run)
            return Lease(run=run, worker_id=worker_id, fencing_token=run.fencing_token)
        if run.id not in self._ready:
            return None
        if run.agent not in agents or run.needs_version > version:
            self._ready[run.id] = self._clock()
            return None
        if run.is_suspect and not takes_suspect:
            return None
        del self._ready[run.id]
        now = self._clock()
        self._leased.setdefault(worker_id, {})[run.id] = now
        run = self._move(
            run,
            RunStatus.RUNNING,
            worker_id=worker_id,
            fencing_token=self._give_token(),
            attempts=run.attempts + 1,
            started_at=run.started_at or now,
        )
        return Lease(run=run, worker_id=worker_id, fencing_token=run.fencing_token)

    async def clear_strikes(self, lease: Lease) -> Run:
        run = self._check_held(lease).model_copy(update={"strikes": 0, "is_suspect": False})
        self._runs.replace(run)
        return run

    async def finish(
        self, lease: Lease, ending: Ending, *, is_rolled_back: bool = False
    ) -> WakeUp | None:
        ending = stored_form(ending)
        run = self._find(lease.run.id)
        if run is not None and run.status.is_final and _is_of(lease, run):
            active = self._lines[run.history_id].active
            return self._wake_up(active) if active in self._ready else None
        run = self._check_held(lease)
        if run.rollback_requested and not is_rolled_back:
            raise RollbackRequestedError(
                f"Run {run.id} was asked to roll back; remove its messages, then finish it as "
                "cancelled."
            )
        return self._end(
            run,
            ending.status,
            output=ending.output,
            usage=ending.usage,
            rounds=ending.rounds,
            error=ending.error,
            sealed_outcome=ending.sealed,
            spending=ending.spending,
            totals=totals_of(ending),
        )

    async def hand_over(self, lease: Lease, *, needs_version: int | None = None) -> WakeUp:
        run = self._find(lease.run.id)
        if run is None or run.status is not RunStatus.QUEUED or not _is_of(lease, run):
            held = self._check_held(lease)
            self._release(held if needs_version is None else _untouched(held, needs_version))
        return self._wake_up(lease.run.id)

    async def cancel(self, run_id: str) -> Cancellation:
        self._forget_expired()
        run = self._runs.get(run_id)
        if run.status.is_final:
            return Cancellation(CancelResult.ALREADY_ENDED)
        if run.cancel_requested:
            return Cancellation(CancelResult.ALREADY_REQUESTED)
        is_started = run.attempts > 0
        wake_up = self._stop(run, rollback=False)
        return Cancellation(
            CancelResult.REQUESTED if is_started else CancelResult.CANCELLED, wake_up
        )

    async def remove_runs(self, conversation_id: str) -> int:
        active = self.active_run(conversation_id)
        if active is not None:
            raise busy(conversation_id, active)
        removed = self._runs.remove_conversation(conversation_id)
        for run in removed:
            self._clean_up(run)
        self._lines.pop(conversation_id, None)
        return len(removed)

    def active_run(self, conversation_id: str) -> str | None:
        """The run that holds a conversation, if one does."""
        line = self._lines.get(conversation_id)
        return line.active if line is not None else None

    async def publish(self, lease: Lease, events: Sequence[DeltaEvent]) -> None:
        run = self._find(lease.run.id)
        if run is None or not self._is_held(lease, run):
            return
        for event in events:
            self._events.append(event)
        self._notifications.publish(self.topic(run.id), "delta")

    async def list_events(
        self, run_id: str, *, after: str | None = None, limit: int = 500
    ) -> list[StatusEvent | DeltaEvent]:
        partition_of_run(run_id)
        return self._events.read(run_id, after=after, limit=limit)

    async def beat(self, worker: WorkerInfo) -> None:
        now = self._clock()
        newest = max((beat.lasts_from for beat in self._beats.values()), default=now)
        away = now - newest if now - newest > self._lease / 2 else timedelta()
        self._beats = {
            name: replace(beat, lasts_from=beat.lasts_from + away)
            for name, beat in self._beats.items()
            if newest - beat.lasts_from < self._lease
        }
        self._beats[worker.id] = _Beat(worker, now, now)

    async def retire(self, worker_id: str) -> None:
        self._beats.pop(worker_id, None)

    async def list_workers(self) -> list[WorkerInfo]:
        return [beat.worker for beat in self._beats.values() if self._is_recent(beat.at)]

    async def find_newer(
        self, *, agents: Collection[str], version: int = FORMAT_VERSION
    ) -> dict[str, int]:
        self._forget_expired()
        oldest: dict[tuple[str, int], Run] = {}
        for run in map(self._runs.__getitem__, self._ready):
            if run.agent in agents and run.needs_version > version:
                first = oldest.setdefault((run.agent, run.needs_version), run)
                if self._ready[run.id] < self._ready[first.id]:
                    oldest[run.agent, run.needs_version] = run
        return {run.id: run.needs_version for run in oldest.values()}

    async def sweep(
        self,
        worker_id: str,
        *,
        agents: Collection[str],
        limit: int,
        version: int = FORMAT_VERSION,
    ) -> Sweep:
        self._forget_expired()
        reclaimed = [self._reclaim(run) for run in list(self._lost_runs())]
        now = self._clock()
        overdue = [
            self._runs[run_id]
            for due, run_id in sorted((due, run_id) for run_id, due in self._ready.items())
            if due <= now
            and self._runs[run_id].agent in agents
            and self._runs[run_id].needs_version <= version
        ]
        held = self._leased.get(worker_id, {})
        return Sweep(
            reclaimed=tuple(reclaimed),
            overdue=tuple([run.id for run in overdue if not run.is_suspect][:limit]),
            suspects=tuple([run.id for run in overdue if run.is_suspect][:_NAMED_SUSPECTS]),
            cancelled=tuple(run_id for run_id in held if self._runs[run_id].cancel_requested),
            leased=frozenset(held),
        )

    def _give_token(self) -> int:
        """Greater than the last one, and at least the time in microseconds.

        Runs are forgotten with their process, and histories need not be: one that is kept on disk
        has seen the tokens of earlier processes, and refuses those that are not greater.
        """
        self._token = max(self._token + 1, int(self._clock().timestamp() * 1_000_000))
        return self._token

    def _stand_in_line(self, run: Run, line: WaitingLine) -> str | None:
        """Let a new run wait for its conversation. Returns the run that it interrupts, if any."""
        active, interrupts = line.active, run.on_busy in _INTERRUPTING
        for overtaken in line.interrupters if interrupts else ():
            # It never started either, and would only be stopped when it does.
            self._stop(self._runs[overtaken], rollback=False)
        # In line before the active run is stopped, or one that waits already would be next.
        line.join(run.id, interrupts=interrupts)
        if active is None:
            self._make_ready(run.id)
            return None
        if not interrupts:
            return None
        self._stop(self._runs[active], rollback=run.on_busy is BusyPolicy.ROLLBACK)
        return active

    def _make_ready(self, run_id: str) -> None:
        self._ready[run_id] = self._clock() + self._pickup

    def _wake_up(self, run_id: str) -> WakeUp:
        run = self._runs[run_id]
        return WakeUp(run_id=run.id, agent=run.agent, priority=run.priority)

    def _stop(self, run: Run, *, rollback: bool) -> WakeUp | None:
        """End a run that never started, ask any other to stop. Returns who comes next, if so."""
        if run.attempts == 0:
            return self._end(run, RunStatus.CANCELLED)
        is_rolled_back = run.rollback_requested or rollback
        self._runs.replace(
            run.model_copy(
                update={
                    "cancel_requested": True,
                    "rollback_requested": is_rolled_back,
                    # It is closed and not executed any more, so it can do no harm.
                    "is_suspect": False,
                }
            )
        )
        if run.status is RunStatus.RUNNING and run.worker_id is not None:
            self._notifications.publish(self.control_topic(run.worker_id), run.id)
        else:
            # Nobody was rung for this, so the next sweep takes it.
            self._ready[run.id] = self._clock()
        return None

    def _end(
        self,
        run: Run,
        status: RunStatus,
        *,
        totals: Mapping[str, int] = _NO_TOTALS,
        **changes: object,
    ) -> WakeUp | None:
        self._drop_lease(run)
        self._records.count(run.conversation_id, totals)
        changes |= {"finished_at": self._clock(), "is_suspect": False}
        self._runs.expire_later(self._move(run, status, **changes))
        return self._pass_on(run)

    def _pass_on(self, run: Run) -> WakeUp | None:
        """Take a run out of its conversation's line and make the next one ready."""
        self._ready.pop(run.id, None)
        next_id = self._lines[run.history_id].leave(run.id)
        if next_id is None:
            return None
        self._make_ready(next_id)
        return self._wake_up(next_id)

    def _reclaim(self, run: Run) -> WakeUp:
        crashes, strikes = run.crashes + 1, run.strikes + 1
        is_suspect = strikes == self._strikes_of_suspect and not run.cancel_requested
        counted = {"crashes": crashes, "strikes": strikes, "is_suspect": is_suspect}
        self._release(run.model_copy(update=counted))
        self._ready[run.id] = min(self._ready[run.id], self._clock() + self._retake)
        return self._wake_up(run.id)

    def _release(self, run: Run) -> None:
        self._drop_lease(run)
        self._move(run, RunStatus.QUEUED)
        if run.is_suspect:
            self._ready[run.id] = self._clock()
        else:
            self._make_ready(run.id)

    def _drop_lease(self, run: Run) -> None:
        if run.status is RunStatus.RUNNING and run.worker_id is not None:
            held = self._leased[run.worker_id]
            del held[run.id]
            if not held:
                del self._leased[run.worker_id]

    def _move(self, run: Run, status: RunStatus, **changes: object) -> Run:
        if status not in TRANSITIONS[run.status]:
            raise AssertionError(f"{run.id}: {run.status} to {status}")  # a bug in this module
        moved = run.model_copy(update={"status": status, **changes})
        self._runs.replace(moved)
        self._announce(moved)
        return moved

    def _announce(self, run: Run) -> None:
        """Tell watchers what status the run has."""
        self._events.append(
            StatusEvent(
                run_id=run.id,
                status=run.status,
                worker_id=run.worker_id,
                attempt=run.attempts,
                rolled_back=run.is_rolled_back,
                created_at=self._clock(),
            )
        )
        self._notifications.publish(self.topic(run.id), run.status)

    def _lost_runs(self) -> Iterator[Run]:
        """Runs of workers that stopped beating."""
        for worker_id, held in self._leased.items():
            beat = self._beats.get(worker_id)
            if beat is not None and self._is_recent(beat.lasts_from):
                continue
            yield from (
                self._runs[run] for run, since in held.items() if not self._is_recent(since)
            )

    def _is_recent(self, when: datetime) -> bool:
        return self._clock() - when < self._lease

    def _is_held(self, lease: Lease, run: Run) -> bool:
        return run.status is RunStatus.RUNNING and _is_of(lease, run)

    def _check_held(self, lease: Lease) -> Run:
        """The run as it is, if the lease is still good.

        Raises:
            FencedError: It is not.
        """
        run = self._find(lease.run.id)
        if run is None or not self._is_held(lease, run):
            raise FencedError(
                f"Worker {lease.worker_id} does not hold run {lease.run.id} under token "
                f"{lease.fencing_token} any more; drop it, whoever has it now goes on."
            )
        return run

    def _find(self, run_id: str) -> Run | None:
        self._forget_expired()
        return self._runs.find(run_id)

    def _forget_expired(self) -> None:
        for run in self._runs.take_expired():
            self._clean_up(run)
        self._events.forget_expired()

    def _clean_up(self, run: Run) -> None:
        """Drop what belongs to a run that is forgotten."""
        self._events.forget(run.id)
        self._repeated.discard(run.id)
        if is_alone(run.history_id):
            self._lines.pop(run.history_id, None)


def _is_of(lease: Lease, run: Run) -> bool:
    """Whether the lease is the newest one of the run."""
    return (run.worker_id, run.fencing_token) == (lease.worker_id, lease.fencing_token)


def _untouched(run: Run, needs_version: int) -> Run:
    """The run as if this lease had not been, but for the version that it needs."""
    attempts = run.attempts - 1
    changes = {
        "needs_version": max(needs_version, run.needs_version),
        "attempts": attempts,
        "started_at": run.started_at if attempts else None,
    }
    return run.model_copy(update=changes)
