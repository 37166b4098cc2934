"""A run ledger over another one that keeps what runs say encrypted."""

from collections.abc import Collection, Sequence

import structlog

from shared.encryption_key import Plaintext
from shared.errors import IdempotencyConflictError, SealError, UnknownRunError, UnsealedError
from shared.event import DeltaEvent, StatusEvent
from shared.ledger.protocol import Cancellation, RunLedger, Submission, Sweep, WakeUp
from shared.notification.protocol import Notifications
from shared.request_digest import asked_for, request_digest
from shared.run import Ending, Lease, NewRun, Run, RunStatus, WorkerInfo
from shared.sealing.failure import PLAIN_ERRORS, failure_of, is_for_others
from shared.sealing.guard import unopened
from shared.sealing.key_ring import KeyRing
from shared.sealing.run_body import RunSealer
from shared.version import FORMAT_VERSION

log = structlog.get_logger()

_MAY_BE_PLAIN = frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLED})
"""Runs with such a status may have no sealed outcome: they have none, or were never started."""


class SealedRunLedger:
    """Input, metadata, options, output, error and text deltas are encrypted; see `RunLedger`.

    Ids, agents' names, statuses, times, priorities, policies, idempotency keys and counts stay
    readable, since ledgers work with them. Without a `key_ring` nothing is encrypted, and this is a
    guard: what is encrypted is never handed out as if it were empty.

    What cannot be opened is raised as `SealError` by every method that would return it, lists
    included. A run that a worker leases and cannot open fails (see `shared.sealing.failure`), or
    is given back where only its key is missing here; `lease` raises in both cases, and the lease
    is over.
    """

    def __init__(
        self, ledger: RunLedger, key_ring: KeyRing | None = None, *, plaintext: Plaintext = "refuse"
    ) -> None:
        self._ledger = ledger
        self._sealer = RunSealer(key_ring) if key_ring is not None else None
        self._accepts_plaintext = plaintext != "refuse" or key_ring is None
        self._writer = self._sealer if plaintext != "write" else None

    @property
    def inner(self) -> RunLedger:
        """The ledger below."""
        return self._ledger

    @property
    def is_distributed(self) -> bool:
        return self._ledger.is_distributed

    @property
    def notifications(self) -> Notifications:
        return self._ledger.notifications

    def topic(self, run_id: str) -> str:
        return self._ledger.topic(run_id)

    def control_topic(self, worker_id: str) -> str:
        return self._ledger.control_topic(worker_id)

    async def submit(self, new: NewRun) -> Submission:
        stored = new if self._writer is None else self._writer.seal_request(new)
        try:
            submission = await self._ledger.submit(stored)
        except IdempotencyConflictError as conflict:
            digest = await self._digest_of_same(new, conflict.run_id)
            if digest is None:
                raise
            again = stored.model_copy(update={"request_digest": digest})
            submission = await self._ledger.submit(again)
        return self._opened_submission(submission)

    async def withdraw(self, run_id: str) -> bool:
        return await self._ledger.withdraw(run_id)

    async def get(self, run_id: str) -> Run:
        return self._opened(await self._ledger.get(run_id))

    async def list_runs(
        self,
        *,
        conversation_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        agent: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Run]:
        found = await self._ledger.list_runs(
            conversation_id=conversation_id, status=status, agent=agent, limit=limit, before=before
        )
        return [self._opened(run) for run in found]

    async def list_conversations(self, *, limit: int = 50) -> list[str]:
        return await self._ledger.list_conversations(limit=limit)

    async def lease(
        self,
        run_id: str,
        worker_id: str,
        *,
        agents: Collection[str],
        takes_suspect: bool = True,
        version: int = FORMAT_VERSION,
    ) -> Lease | None:
        lease = await self._ledger.lease(
            run_id, worker_id, agents=agents, takes_suspect=takes_suspect, version=version
        )
        if lease is None:
            return None
        try:
            return lease.model_copy(update={"run": self._opened(lease.run)})
        except SealError as error:
            await self._give_up(lease, error)
            raise

    async def clear_strikes(self, lease: Lease) -> Run:
        return self._opened(await self._ledger.clear_strikes(lease))

    async def finish(
        self, lease: Lease, ending: Ending, *, is_rolled_back: bool = False
    ) -> WakeUp | None:
        if self._writer is not None:
            ending = self._writer.seal_ending(lease.run, ending)
        return await self._ledger.finish(lease, ending, is_rolled_back=is_rolled_back)

    async def hand_over(self, lease: Lease, *, needs_version: int | None = None) -> WakeUp:
        return await self._ledger.hand_over(lease, needs_version=needs_version)

    async def cancel(self, run_id: str) -> Cancellation:
        return await self._ledger.cancel(run_id)

    async def publish(self, lease: Lease, events: Sequence[DeltaEvent]) -> None:
        if self._writer is not None:
            events = [self._writer.seal_delta(event) for event in events]
        await self._ledger.publish(lease, events)

    async def list_events(
        self, run_id: str, *, after: str | None = None, limit: int = 500
    ) -> list[StatusEvent | DeltaEvent]:
        events = await self._ledger.list_events(run_id, after=after, limit=limit)
        return [
            self._opened_delta(event) if isinstance(event, DeltaEvent) else event
            for event in events
        ]

    async def remove_runs(self, conversation_id: str) -> int:
        return await self._ledger.remove_runs(conversation_id)

    async def beat(self, worker: WorkerInfo) -> None:
        await self._ledger.beat(worker)

    async def retire(self, worker_id: str) -> None:
        await self._ledger.retire(worker_id)

    async def list_workers(self) -> list[WorkerInfo]:
        return await self._ledger.list_workers()

    async def sweep(
        self,
        worker_id: str,
        *,
        agents: Collection[str],
        limit: int,
        version: int = FORMAT_VERSION,
    ) -> Sweep:
        return await self._ledger.sweep(worker_id, agents=agents, limit=limit, version=version)

    async def find_newer(
        self, *, agents: Collection[str], version: int = FORMAT_VERSION
    ) -> dict[str, int]:
        return await self._ledger.find_newer(agents=agents, version=version)

    async def _digest_of_same(self, new: NewRun, run_id: str) -> str | None:
        """The digest of the run of then, if it was asked for the same under another key.

        Digests depend on the key that wrote them, so after a rotation they say "another request"
        where it is the same; the run itself knows.
        """
        try:
            known = await self._ledger.get(run_id)
        except UnknownRunError:
            return None
        return request_digest(known) if asked_for(self._opened(known)) == asked_for(new) else None

    async def _give_up(self, lease: Lease, error: SealError) -> None:
        if is_for_others(error, lease.run.attempts):
            await self._ledger.hand_over(lease)
            return
        ending = Ending(status=RunStatus.FAILED, error=failure_of(error))
        # Whatever it wrote stays: nothing is removed that cannot be opened.
        await self.finish(lease, ending, is_rolled_back=True)

    def _opened_submission(self, submission: Submission) -> Submission:
        return Submission(
            run=self._opened(submission.run),
            is_new=submission.is_new,
            is_ready=submission.is_ready,
            interrupted=submission.interrupted,
        )

    def _opened(self, run: Run) -> Run:
        return self._opened_outcome(self._opened_request(run))

    def _opened_request(self, run: Run) -> Run:
        if run.sealed is None:
            if not self._accepts_plaintext:
                raise _unsealed(f"The request of run {run.id}")
            return run
        if self._sealer is None:
            raise unopened(run.sealed, f"The request of run {run.id}")
        return self._sealer.open_request(run, run.sealed)

    def _opened_outcome(self, run: Run) -> Run:
        if run.sealed_outcome is None:
            return run if self._accepts_plaintext else _plain_outcome(run)
        if self._sealer is None:
            raise unopened(run.sealed_outcome, f"The outcome of run {run.id}")
        return self._sealer.open_ending(run, run.sealed_outcome)

    def _opened_delta(self, event: DeltaEvent) -> DeltaEvent:
        where = f"Event {event.cursor} of run {event.run_id}"
        if event.sealed is None:
            if not self._accepts_plaintext:
                raise _unsealed(where)
            return event
        if self._sealer is None:
            raise unopened(event.sealed, where)
        return self._sealer.open_delta(event, event.sealed)


def innermost_ledger(ledger: RunLedger) -> RunLedger:
    """The ledger itself, below what it is wrapped in."""
    while isinstance(ledger, SealedRunLedger):
        ledger = ledger.inner
    return ledger


def _plain_outcome(run: Run) -> Run:
    """What may stand in clear where runs are encrypted: nothing, or a failure in fixed words.

    Raises:
        UnsealedError: There is more.
    """
    if run.output is None and run.error is None and run.status in _MAY_BE_PLAIN:
        return run
    if run.output is None and run.error is not None and run.error.code in PLAIN_ERRORS:
        fixed = run.error.model_copy(update={"message": PLAIN_ERRORS[run.error.code]})
        return run.model_copy(update={"error": fixed})
    raise _unsealed(f"The outcome of run {run.id}")


def _unsealed(where: str) -> UnsealedError:
    return UnsealedError(
        f"{where} is not encrypted, so anybody who can write to the store may have put it there. "
        "If it is from before AGENTS_ENCRYPTION_KEYS was set, set AGENTS_PLAINTEXT=read for "
        "AGENTS_RUN_TTL_S. Else a client or worker runs without the keys: give them to it."
    )
