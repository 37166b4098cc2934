"""What a ledger has to answer, in plain Python: slow, obvious, and none of the product's code.

There are no queues and no indexes to forget something in. Whatever is asked is found by looking at
all runs.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from shared.errors import (
    ConversationBusyError,
    FencedError,
    IdempotencyConflictError,
    RollbackRequestedError,
    UnknownRunError,
)
from shared.run import BusyPolicy, CancelResult, Ending, Lease, NewRun, RunStatus, WorkerInfo
from shared.settings import Settings

LIVE = (RunStatus.QUEUED, RunStatus.RUNNING)
INTERRUPTING = (BusyPolicy.INTERRUPT, BusyPolicy.ROLLBACK)


@dataclass(eq=False)
class Known:
    """What the reference knows of a run."""

    new: NewRun
    order: int
    status: RunStatus = RunStatus.QUEUED
    worker: str | None = None
    token: int = 0
    attempts: int = 0
    crashes: int = 0
    strikes: int = 0
    is_suspect: bool = False
    cancel: bool = False
    rollback: bool = False
    is_repeated: bool = False
    due: float = 0.0
    leased_at: float = 0.0

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    def is_under(self, lease: Lease) -> bool:
        return (self.worker, self.token) == (lease.worker_id, lease.fencing_token)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep has to find; sets, where order says nothing."""

    reclaimed: frozenset[str]
    overdue: frozenset[str]
    suspects: frozenset[str]
    cancelled: frozenset[str]
    leased: frozenset[str]


@dataclass
class ReferenceLedger:
    """Every run. Methods are named, and raise, as those of `RunLedger`."""

    settings: Settings
    now: float = 0.0
    runs: dict[str, Known] = field(default_factory=dict)
    active: dict[str, Known] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    beats: dict[str, float] = field(default_factory=dict)
    submitted: int = 0

    def is_ready(self, run: Known) -> bool:
        """Whether a worker may lease it."""
        return run.status is RunStatus.QUEUED and self.active.get(run.new.history_id) is run

    def waiting(self, history: str) -> list[Known]:
        """Runs that wait for their conversation, the next one first."""
        return sorted(
            (
                run
                for run in self.runs.values()
                if run.is_live
                and run.new.history_id == history
                and run is not self.active.get(history)
            ),
            key=lambda run: (run.new.on_busy not in INTERRUPTING, run.order),
        )

    def submit(self, new: NewRun) -> tuple[str, bool, bool, str | None]:
        """Run, whether it is new, whether it is ready, which one it interrupts."""
        known = self._find_repeated(new)
        if known is not None:
            known.is_repeated = True
            return known.new.id, False, self.is_ready(known), None
        active = self.active.get(new.history_id)
        if active is not None and new.on_busy is BusyPolicy.REJECT:
            raise ConversationBusyError("busy", run_id=active.new.id)
        self.submitted += 1
        run = self.runs[new.id] = Known(new, self.submitted)
        if active is None:
            self._activate(run)
            return new.id, True, True, None
        if new.on_busy not in INTERRUPTING:
            return new.id, True, False, None
        for overtaken in self.waiting(new.history_id):
            if overtaken.new.on_busy in INTERRUPTING and overtaken is not run:
                self._end(overtaken, RunStatus.CANCELLED)
        self._stop(active, rollback=new.on_busy is BusyPolicy.ROLLBACK)
        return new.id, True, self.is_ready(run), active.new.id

    def withdraw(self, run_id: str) -> bool:
        run = self.runs.get(run_id)
        if run is None:
            return True
        if run.status is not RunStatus.QUEUED or run.attempts or run.is_repeated:
            return False
        del self.runs[run_id]
        self._leave(run)
        return True

    def lease(
        self, run_id: str, worker_id: str, *, agents: Collection[str], takes_suspect: bool
    ) -> bool:
        """Whether the worker gets it; the token is the ledger's to choose, see `took`."""
        run = self.runs.get(run_id)
        if run is None:
            return False
        if run.status is RunStatus.RUNNING and run.worker == worker_id:
            return True
        if not self.is_ready(run):
            return False
        if run.new.agent not in agents:
            run.due = self.now
            return False
        if run.is_suspect and not takes_suspect:
            return False
        run.status, run.worker, run.leased_at = RunStatus.RUNNING, worker_id, self.now
        run.attempts += 1
        return True

    def took(self, run_id: str, token: int) -> None:
        """A lease was given under this token, which is greater than all before it."""
        run = self.runs[run_id]
        last = self.tokens.get(run.new.history_id, 0)
        assert token > last, f"{run_id} got token {token} after {last}"
        run.token = self.tokens[run.new.history_id] = token

    def finish(self, lease: Lease, ending: Ending, *, is_rolled_back: bool = False) -> str | None:
        run = self._held(lease)
        if not run.is_live:
            following = self.active.get(run.new.history_id)
            return following.new.id if following and self.is_ready(following) else None
        if run.status is not RunStatus.RUNNING:
            raise FencedError
        if run.rollback and not is_rolled_back:
            raise RollbackRequestedError
        return self._end(run, ending.status)

    def clear_strikes(self, lease: Lease) -> RunStatus:
        run = self._held(lease)
        if run.status is not RunStatus.RUNNING:
            raise FencedError
        run.strikes, run.is_suspect = 0, False
        return run.status

    def hand_over(self, lease: Lease) -> str:
        run = self._held(lease)
        if not run.is_live:
            raise FencedError
        if run.status is RunStatus.RUNNING:
            self._release(run)
        return run.new.id

    def cancel(self, run_id: str) -> tuple[CancelResult, str | None]:
        run = self.runs.get(run_id)
        if run is None:
            raise UnknownRunError
        if not run.is_live:
            return CancelResult.ALREADY_ENDED, None
        if run.cancel:
            return CancelResult.ALREADY_REQUESTED, None
        result = CancelResult.REQUESTED if run.attempts else CancelResult.CANCELLED
        return result, self._stop(run, rollback=False)

    def beat(self, worker: WorkerInfo) -> None:
        newest = max(self.beats.values(), default=self.now)
        if self.now - newest > self.settings.lease_s / 2:
            # An outage, for those that lived when it began.
            for name, beat in self.beats.items():
                if newest - beat < self.settings.lease_s:
                    self.beats[name] = beat + (self.now - newest)
        self.beats[worker.id] = self.now

    def retire(self, worker_id: str) -> None:
        self.beats.pop(worker_id, None)

    def get(self, run_id: str) -> RunStatus:
        if run_id not in self.runs:
            raise UnknownRunError
        return self.runs[run_id].status

    def sweep(self, worker_id: str, *, agents: Collection[str], limit: int) -> Swept:
        lost = [run for run in self.runs.values() if self._is_lost(run)]
        for run in lost:
            run.crashes += 1
            run.strikes += 1
            run.is_suspect = run.strikes == self.settings.max_crashes - 1 and not run.cancel
            self._release(run)
            run.due = min(run.due, self.now + self.settings.sweep_s)
        ready = [
            run
            for run in self.runs.values()
            if self.is_ready(run) and run.due <= self.now and run.new.agent in agents
        ]
        overdue = frozenset(run.new.id for run in ready if not run.is_suspect)
        assert len(overdue) <= limit or not limit, "the machine makes fewer runs than that"
        held = [
            run
            for run in self.runs.values()
            if run.status is RunStatus.RUNNING and run.worker == worker_id
        ]
        return Swept(
            reclaimed=frozenset(run.new.id for run in lost),
            overdue=overdue if limit else frozenset(),
            suspects=frozenset(run.new.id for run in ready if run.is_suspect),
            cancelled=frozenset(run.new.id for run in held if run.cancel),
            leased=frozenset(run.new.id for run in held),
        )

    def _find_repeated(self, new: NewRun) -> Known | None:
        if new.id in self.runs:
            return self.runs[new.id]
        asked = (new.conversation_id, new.idempotency_key)
        for run in self.runs.values():
            if new.idempotency_key and asked == (run.new.conversation_id, run.new.idempotency_key):
                if (run.new.agent, run.new.input) != (new.agent, new.input):
                    raise IdempotencyConflictError(f"The key belongs to {run.new.id}.", run.new.id)
                return run
        return None

    def _held(self, lease: Lease) -> Known:
        run = self.runs.get(lease.run.id)
        if run is None or not run.is_under(lease):
            raise FencedError
        return run

    def _is_lost(self, run: Known) -> bool:
        oldest = self.now - self.settings.lease_s
        return (
            run.status is RunStatus.RUNNING
            and run.leased_at <= oldest
            and self.beats.get(run.worker or "", oldest) <= oldest
        )

    def _activate(self, run: Known) -> None:
        self.active[run.new.history_id] = run
        run.due = self.now + self.settings.pickup_s

    def _release(self, run: Known) -> None:
        run.status = RunStatus.QUEUED
        run.due = self.now if run.is_suspect else self.now + self.settings.pickup_s

    def _stop(self, run: Known, *, rollback: bool) -> str | None:
        if not run.attempts:
            return self._end(run, RunStatus.CANCELLED)
        run.cancel, run.rollback = True, run.rollback or rollback
        run.is_suspect = False
        if run.status is RunStatus.QUEUED:
            run.due = self.now
        return None

    def _end(self, run: Known, status: RunStatus) -> str | None:
        run.status, run.is_suspect = status, False
        return self._leave(run)

    def _leave(self, run: Known) -> str | None:
        history = run.new.history_id
        if self.active.get(history) is not run:
            return None
        del self.active[history]
        for following in self.waiting(history):
            self._activate(following)
            return following.new.id
        return None
