"""Where runs are kept: the protocol, and what every implementation guarantees."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.event import DeltaEvent, StatusEvent
from shared.notification.protocol import Notifications
from shared.run import CancelResult, Ending, Lease, NewRun, Run, RunStatus, WorkerInfo
from shared.version import FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Submission:
    """What `submit` found.

    Attributes:
        run: The run, new or (under an idempotency key that was used before) the one of then.
        is_new: Whether this call made it.
        is_ready: Whether a worker may lease it now, so that ringing one makes sense. False while
            other runs hold its conversation.
        interrupted: The run that was told to stop in favour of this one, if any.
    """

    run: Run
    is_new: bool
    is_ready: bool
    interrupted: str | None = None


@dataclass(frozen=True, slots=True)
class WakeUp:
    """A run that a worker should be rung for."""

    run_id: str
    agent: str
    priority: int


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What `cancel` found.

    Attributes:
        result: What became of the run.
        next: The conversation's next run when this call made it ready; ring somebody for it.
    """

    result: CancelResult
    next: WakeUp | None = None


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one worker's look around found.

    Attributes:
        reclaimed: Runs taken back from dead workers, whatever their agents; ring somebody for each.
        overdue: Runs of the given agents that were ready long enough and that nobody took, those
            overdue for longest first. They stay overdue until somebody leases them.
        suspects: As `overdue`, of the runs that are suspects; a few of them, however many there
            are. A worker takes one of them at a time.
        cancelled: Runs leased by the sweeping worker that somebody asked to cancel.
        leased: All runs that the ledger says the sweeping worker holds.
    """

    reclaimed: tuple[WakeUp, ...] = ()
    overdue: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    leased: frozenset[str] = frozenset()


class RunLedger(Protocol):
    """Every run, its status and its outcome; who executes it; which workers live.

    Guarantees of every implementation, tested by one contract suite:

    - *One state change, one atomic step*; only those of `shared.run.TRANSITIONS` happen.
    - *One active run a conversation*: of the runs of a conversation at most one is ready or
      running; the others wait in the order of their submits, one that interrupts before those
      that do not. A run that is handed over or reclaimed stays the active one.
    - *One lease a run*: of any number of concurrent `lease` calls one succeeds. Each success has a
      fencing token greater than all before it in that conversation, those included that a store
      has forgotten since (an expired conversation, latest writes lost in a power cut).
    - *Nothing is lost*: a run that has not ended is found by `sweep` of a live worker that serves
      its agent, whatever process died between whichever two steps.
    - *A crash is a strike* against the run, until it makes progress (see `clear_strikes`). One with
      a strike, and one strike away from `max_crashes`, is a suspect: sweeps name it apart from the
      others, and a worker that has one already can lease without getting another.
    - *A ready run is overdue* `pickup_s` after it became ready, `sweep_s` after it was taken back
      from a dead worker (if that is less); at once, when it was asked to stop, is a suspect, or
      when a worker tried to lease it that does not serve its agent or is too old for it.
    - *A run is executed by those who know its version* (`needs_version`, see `shared.version`):
      `lease` refuses others, `sweep` does not name it to them, so that it keeps no other run from
      being named; `find_newer` does.
    - *Every change of status* is a `StatusEvent` in the run's event log and a hint on its topic.
    - *Ended runs are kept* for `run_ttl_s`, an event log for `event_ttl_s` after its last event.
    - *Time* is the store's clock, never a caller's.

    What cannot be a run id is refused with `InvalidIdError`, by every method that takes one.

    A record that cannot be read (somebody else wrote to the store, a disk broke) costs that run:
    methods that are about it raise `CorruptEntryError`, lists leave it out and say so in the log.
    One that a worker comes to lease is failed, so that its conversation goes on.
    """

    @property
    def is_distributed(self) -> bool:
        """Whether other processes see the same runs."""
        ...

    @property
    def notifications(self) -> Notifications:
        """Where a hint arrives after each change of a run."""
        ...

    def topic(self, run_id: str) -> str:
        """The topic on which status changes and text deltas of a run are announced."""
        ...

    def control_topic(self, worker_id: str) -> str:
        """The topic on which a worker hears the ids of its runs that shall stop."""
        ...

    async def submit(self, new: NewRun) -> Submission:
        """Accept a run. Durable (as durable as the store) when it returns.

        An idempotency key is scoped to the conversation, or to all runs that are alone. It is
        forgotten after `idempotency_ttl_s`, or with its run when that goes first. A known key (or
        the same run id) answers with the run of then, whatever `on_busy` says.

        While another run holds the conversation, `on_busy` decides. Interrupting or rolling back
        cancels an active run that never started at once; one that started is asked to stop, as by
        `cancel`, and the new run waits for its end. A run that waits for such an end is overtaken:
        it is cancelled, as it would be if it had become active in time. So the last one to
        interrupt is the next one to go, and those that only wait keep their places behind it.

        Raises:
            InvalidIdError: The run's id names another partition than its conversation lies in.
            UnstorableError: Input or metadata could not be read again. Nothing stored.
            ConversationBusyError: `on_busy` is reject and the conversation is held. Nothing stored.
            ConversationInactiveError: The conversation has a record (`ConversationDirectory`) that
                says that it takes no further runs. Nothing stored.
            IdempotencyConflictError: The key belongs to a run with another agent or input.
            StoreUnavailableError: No answer. It may have been accepted; submitting the same run
                again, or another one with the same idempotency key, is safe.
        """
        ...

    async def withdraw(self, run_id: str) -> bool:
        """Take a run back that was submitted once and never leased, as if it had never been.

        Its idempotency key is free again, and a next run of the conversation becomes ready (and
        is found by a sweep). What it interrupted stays interrupted. Returns False, and changes
        nothing, if it was leased or has ended, or if a later `submit` was answered with it, whose
        caller counts on it; True if there is no such run, so that repeating it is harmless.
        """
        ...

    async def get(self, run_id: str) -> Run:
        """Read a run.

        Raises:
            UnknownRunError: There is none.
            StoreUnavailableError: No answer.
        """
        ...

    async def list_runs(
        self,
        *,
        conversation_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        agent: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Run]:
        """Runs that pass the filters, newest first. `before` is a run id, for the next page.

        None leaves a filter out; an empty `status` passes nothing.
        Newest by time of submit, to the millisecond; runs of one millisecond have some fixed order.

        Raises:
            UnknownRunError: There is no run `before`.
            StoreUnavailableError: No answer.
        """
        ...

    async def list_conversations(self, *, limit: int = 50) -> list[str]:
        """Ids of conversations that had a run, the one with the newest run first."""
        ...

    async def lease(
        self,
        run_id: str,
        worker_id: str,
        *,
        agents: Collection[str],
        takes_suspect: bool = True,
        version: int = FORMAT_VERSION,
    ) -> Lease | None:
        """Take a ready run, if nobody has and its agent is one of `agents`; None otherwise.

        A refusal because of the agent, or because the run needs a newer version than the worker's,
        makes it overdue at once for the others. It is no attempt.
        A suspect is refused where `takes_suspect` is not set, and stays as ready as it was.
        A worker beats before it leases: a lease of one that does not beat is reclaimed as soon as
        it is `lease_s` old.

        Raises:
            StoreUnavailableError: No answer. Leasing again is safe: the worker that holds a lease
                gets it again, as the same attempt, under a greater token. So whatever it sent
                under the former one and gave up is refused, should it arrive late.
        """
        ...

    async def clear_strikes(self, lease: Lease) -> Run:
        """Note that a run has stored a message since it was leased; return it as it is then.

        It has no strikes any more and is no suspect. Repeating it is harmless.

        Raises:
            FencedError: The run is not held under this lease (any more). Nothing changed.
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def finish(
        self, lease: Lease, ending: Ending, *, is_rolled_back: bool = False
    ) -> WakeUp | None:
        """Store the outcome and end the lease; return the conversation's next run, now ready.

        What the run took is added to the totals of its conversation in the same step, if that has
        a record. Repeating it with the same lease is harmless; the first ending stays, and the next
        run is named again until somebody leased it. A run that completes before its worker heard of
        a cancel is completed. One that was asked to roll back does not end, however it ends, before
        its worker has heard of that: `is_rolled_back` says that its messages are removed (or cannot
        be, and it fails). The event says `rolled_back` when such a run is cancelled.

        Raises:
            UnstorableError: The output could not be read again. Nothing changed.
            RollbackRequestedError: The run was asked to roll back. Nothing changed.
            FencedError: The run is not held under this lease (any more). Nothing changed.
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def hand_over(self, lease: Lease, *, needs_version: int | None = None) -> WakeUp:
        """Give a run back unfinished; it is ready again, and this does not count as a crash.

        With `needs_version` the worker says that it did nothing for the run, since that takes a
        worker of this version: from now on only such get it, and the lease is no attempt.

        Repeating it is harmless until somebody leased the run again.

        Raises:
            FencedError: The run is not held under this lease (any more).
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def cancel(self, run_id: str) -> Cancellation:
        """Stop a run.

        One that waits and never started is cancelled at once. One that started is stopped by the
        worker that has it or takes it next, since its conversation has to be left in good order;
        a worker that has it hears the run's id on its `control_topic`, and from each sweep.

        Raises:
            UnknownRunError: There is none.
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def remove_runs(self, conversation_id: str) -> int:
        """Delete all runs of a conversation; return how many that were.

        With them go their inputs, outputs, events and idempotency keys, and the conversation is
        listed no more. A late write of one of their workers changes nothing. Repeating it is
        harmless, and completes one that was cut off.

        Raises:
            ConversationBusyError: A run of the conversation has not ended. Nothing was deleted, or
                (where it was submitted meanwhile) not everything.
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def publish(self, lease: Lease, events: Sequence[DeltaEvent]) -> None:
        """Add text deltas to the run's short-lived event log. May be dropped, never reordered.

        Those of a lease that was lost are dropped.
        """
        ...

    async def list_events(
        self, run_id: str, *, after: str | None = None, limit: int = 500
    ) -> list[StatusEvent | DeltaEvent]:
        """Events of a run behind a cursor, oldest first, each with its `cursor`.

        None, for a run that is unknown or whose log has expired.

        Raises:
            InvalidCursorError: A cursor that this store did not hand out.
            StoreUnavailableError: No answer.
        """
        ...

    async def beat(self, worker: WorkerInfo) -> None:
        """Announce that a worker lives and what it serves. Leases last `lease_s` from here.

        The first beat after half of `lease_s` without any is taken as the end of an outage, whose
        time does not count: the others that lived until then have left of their leases what they
        had before it, so that whoever comes back first leaves them theirs.
        """
        ...

    async def retire(self, worker_id: str) -> None:
        """Announce that a worker is gone. Runs that it still holds are found by a sweep.

        Those count as crashed, so a worker hands its runs over first.
        """
        ...

    async def list_workers(self) -> list[WorkerInfo]:
        """Workers whose heartbeat is younger than a lease."""
        ...

    async def sweep(
        self,
        worker_id: str,
        *,
        agents: Collection[str],
        limit: int,
        version: int = FORMAT_VERSION,
    ) -> Sweep:
        """Take runs back from dead workers and find what was never picked up.

        `limit` bounds `Sweep.overdue` (0 for a worker that is full). Every worker sweeps; that
        several do so at once changes nothing.

        Raises:
            StoreUnavailableError: No answer; sweeping again is safe.
        """
        ...

    async def find_newer(
        self, *, agents: Collection[str], version: int = FORMAT_VERSION
    ) -> dict[str, int]:
        """Ready runs of these agents that need a newer version, with the version that each needs.

        The oldest of each agent and version, for a log that says that workers have to be updated.

        Raises:
            StoreUnavailableError: No answer.
        """
        ...
