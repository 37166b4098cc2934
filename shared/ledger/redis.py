"""Runs in Redis: a hash each, changed by scripts only."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from shared.codec import encode
from shared.directory.fault import busy
from shared.directory.record import totals_of
from shared.errors import (
    ConversationBusyError,
    ConversationInactiveError,
    CorruptEntryError,
    FencedError,
    IdempotencyConflictError,
    InvalidIdError,
    NewerVersionError,
    RollbackRequestedError,
    UnknownRunError,
)
from shared.event import DeltaEvent, StatusEvent
from shared.identifier import is_run_id, partition_of_history, partition_of_run
from shared.ledger.protocol import Cancellation, Submission, Sweep, WakeUp
from shared.ledger.redis_index import RunIndex, ready_names
from shared.ledger.redis_record import (
    check_agent,
    milliseconds,
    read_run,
    read_wake_up,
    readable_events,
)
from shared.ledger.redis_workers import WorkerRegistry
from shared.notification.protocol import Notifications
from shared.redis_client import (
    Script,
    lower_bound,
    script_source,
    translated_errors,
    wanted_replicas,
)
from shared.redis_keys import Keys
from shared.request_digest import request_digest
from shared.run import (
    CancelResult,
    Ending,
    Lease,
    NewRun,
    Run,
    RunError,
    RunStatus,
    WorkerInfo,
)
from shared.settings import Settings
from shared.version import FORMAT_VERSION

_SCRIPTS: Final = (
    "submit",
    "withdraw",
    "lease",
    "clear_strikes",
    "finish",
    "hand_over",
    "cancel",
    "condemn",
    "remove_runs",
)
_REMOVED_AT_ONCE: Final = 500
"""Runs that one script deletes; others wait as long."""
_CANCELLED: Final = Ending(status=RunStatus.CANCELLED)
_UNREADABLE: Final = Ending(
    status=RunStatus.FAILED,
    error=RunError(
        code="record_unreadable",
        message="What is stored of this run cannot be read, so that no worker can execute it.",
    ),
)


class RedisRunLedger:
    """See `RunLedger`."""

    is_distributed = True

    def __init__(
        self, client: Redis, keys: Keys, notifications: Notifications, settings: Settings
    ) -> None:
        self._client = client
        self._keys = keys
        self._notifications = notifications
        self._settings = settings
        replicas = wanted_replicas(settings)
        self._scripts = {
            name: Script(client, script_source("ledger", name), replicas=replicas)
            for name in _SCRIPTS
        }
        self._publish = Script(client, script_source("ledger", "publish"))
        self._index = RunIndex(client, keys)
        self._workers = WorkerRegistry(client, keys, settings)
        self._event_ttl = milliseconds(settings.event_ttl_s)
        self._run_ttl = milliseconds(settings.run_ttl_s)
        self._pickup = milliseconds(settings.pickup_s)

    @property
    def notifications(self) -> Notifications:
        """Redis pub/sub."""
        return self._notifications

    def topic(self, run_id: str) -> str:
        """The channel of a run."""
        return self._keys.run_channel(run_id)

    def control_topic(self, worker_id: str) -> str:
        """The channel of a worker."""
        return self._keys.control_channel(worker_id)

    async def submit(self, new: NewRun) -> Submission:
        """Accept a run, once; see `RunLedger.submit`."""
        _check_partition(new)
        run_key, tag = self._keys.run(new.id), self._keys.tag_of_run(new.id)
        keys = [run_key, self._keys.conversation(new.history_id), self._idempotency_key(new)]
        answer = await self._scripts["submit"](
            keys,
            [
                tag,
                self._keys.prefix,
                new.id,
                new.history_id,
                new.conversation_id or "",
                new.agent,
                new.priority,
                encode(new),
                request_digest(new),
                new.on_busy.value,
                milliseconds(self._settings.idempotency_ttl_s),
                self._event_ttl,
                self._run_ttl,
                self._pickup,
                new.version,
            ],
        )
        if answer[0] == "busy":
            raise ConversationBusyError(
                f"Run {answer[1]} holds conversation {new.conversation_id}; wait for it, or submit "
                'with on_busy="enqueue", "interrupt" or "rollback".',
                run_id=answer[1],
            )
        if answer[0] == "inactive":
            raise ConversationInactiveError(
                f"Conversation {new.conversation_id} was deactivated and takes no further runs; "
                "open its session again (client.managed.open), which begins a new one."
            )
        if answer[0] == "conflict":
            raise IdempotencyConflictError(
                f"Idempotency key {new.idempotency_key!r} belongs to run {answer[1]}, which has "
                "another agent or input; use a new key for a new request.",
                run_id=answer[1],
            )
        return Submission(
            run=read_run(answer[1], answer[4]),
            is_new=answer[0] == "new",
            is_ready=bool(answer[2]),
            interrupted=answer[3] or None,
        )

    async def withdraw(self, run_id: str) -> bool:
        """Take back a run that was never leased; see `RunLedger.withdraw`."""
        try:
            run = await self.get(run_id)
        except UnknownRunError:
            return True
        answer = await self._scripts["withdraw"](
            [self._keys.run(run_id), self._idempotency_key(run)],
            [self._keys.tag_of_run(run_id), run_id, self._pickup],
        )
        return bool(answer)

    async def get(self, run_id: str) -> Run:
        """Read a run; see `RunLedger.get`."""
        with translated_errors():
            record: Any = await self._client.hgetall(self._keys.run(run_id))
        if not record:
            raise _unknown(run_id, self._settings)
        return read_run(run_id, record)

    async def list_runs(
        self,
        *,
        conversation_id: str | None = None,
        status: Collection[RunStatus] | None = None,
        agent: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Run]:
        """Runs, newest first; see `RunLedger.list_runs`."""
        page_before = await self.get(before) if before is not None else None
        statuses = frozenset(RunStatus if status is None else status)
        return await self._index.list_runs(conversation_id, statuses, agent, limit, page_before)

    async def list_conversations(self, *, limit: int = 50) -> list[str]:
        """Conversations by their newest run; see `RunLedger.list_conversations`."""
        return await self._index.list_conversations(limit)

    async def lease(
        self,
        run_id: str,
        worker_id: str,
        *,
        agents: Collection[str],
        takes_suspect: bool = True,
        version: int = FORMAT_VERSION,
    ) -> Lease | None:
        """Take a ready run; see `RunLedger.lease`."""
        try:
            return await self._lease(
                run_id, worker_id, agents, takes_suspect=takes_suspect, version=version
            )
        except NewerVersionError:
            raise  # another worker can read it
        except CorruptEntryError:
            await self._condemn(run_id, worker_id, agents)
            raise

    async def _lease(
        self,
        run_id: str,
        worker_id: str,
        agents: Collection[str],
        *,
        takes_suspect: bool,
        version: int,
    ) -> Lease | None:
        tag = self._keys.tag_of_run(run_id)
        answer = await self._scripts["lease"](
            [self._keys.run(run_id)],
            [tag, run_id, worker_id, self._event_ttl, int(takes_suspect), version, *agents],
        )
        if answer[0] == "unserved":
            check_agent(run_id, answer[1])
        if answer[0] != "leased":
            return None
        run = read_run(run_id, answer[1])
        return Lease(run=run, worker_id=worker_id, fencing_token=run.fencing_token)

    async def clear_strikes(self, lease: Lease) -> Run:
        """Note that a run has made progress; see `RunLedger.clear_strikes`."""
        answer = await self._scripts["clear_strikes"](
            [self._keys.run(lease.run.id)], [lease.worker_id, lease.fencing_token]
        )
        _check_held(answer, lease)
        return read_run(lease.run.id, answer[1])

    async def _condemn(self, run_id: str, worker_id: str, agents: Collection[str]) -> None:
        """Fail a run that no worker can execute, or sweeps would come upon it for ever."""
        await self._scripts["condemn"](
            [self._keys.run(run_id)],
            [
                self._keys.tag_of_run(run_id),
                run_id,
                worker_id,
                encode(_UNREADABLE),
                self._event_ttl,
                self._run_ttl,
                self._pickup,
                *ready_names(agents, FORMAT_VERSION),
            ],
        )

    async def finish(
        self, lease: Lease, ending: Ending, *, is_rolled_back: bool = False
    ) -> WakeUp | None:
        """Store the outcome; see `RunLedger.finish`."""
        answer = await self._scripts["finish"](
            [self._keys.run(lease.run.id)],
            [
                self._keys.tag_of_run(lease.run.id),
                lease.run.id,
                lease.worker_id,
                lease.fencing_token,
                ending.status.value,
                encode(ending),
                int(is_rolled_back),
                self._event_ttl,
                self._run_ttl,
                self._pickup,
                *(word for total in totals_of(ending).items() for word in total),
            ],
        )
        _check_held(answer, lease)
        if answer[0] == "rollback":
            raise RollbackRequestedError(
                f"Run {lease.run.id} was asked to roll back; remove its messages, then finish it "
                "as cancelled."
            )
        return read_wake_up(answer[1]) if answer[1] else None

    async def hand_over(self, lease: Lease, *, needs_version: int | None = None) -> WakeUp:
        """Give a run back unfinished; see `RunLedger.hand_over`."""
        answer = await self._scripts["hand_over"](
            [self._keys.run(lease.run.id)],
            [
                self._keys.tag_of_run(lease.run.id),
                lease.run.id,
                lease.worker_id,
                lease.fencing_token,
                self._event_ttl,
                self._pickup,
                "" if needs_version is None else needs_version,
            ],
        )
        _check_held(answer, lease)
        return read_wake_up(answer[1])

    async def cancel(self, run_id: str) -> Cancellation:
        """Stop a run; see `RunLedger.cancel`."""
        answer = await self._scripts["cancel"](
            [self._keys.run(run_id)],
            [
                self._keys.tag_of_run(run_id),
                self._keys.prefix,
                run_id,
                self._event_ttl,
                self._run_ttl,
                self._pickup,
                encode(_CANCELLED),
            ],
        )
        if answer[0] == "unknown":
            raise _unknown(run_id, self._settings)
        next_run = read_wake_up(answer[1]) if len(answer) > 1 and answer[1] else None
        return Cancellation(CancelResult(answer[0]), next_run)

    async def remove_runs(self, conversation_id: str) -> int:
        """Delete all runs of a conversation; see `RunLedger.remove_runs`."""
        removed, left = 0, 1
        while left:
            answer = await self._scripts["remove_runs"](
                [self._keys.conversation(conversation_id), self._keys.runs(conversation_id)],
                [self._keys.tag_of_history(conversation_id), conversation_id, _REMOVED_AT_ONCE],
            )
            if answer[0] == "busy":
                raise busy(conversation_id, answer[1])
            removed, left = removed + int(answer[1]), int(answer[2])
        return removed

    async def publish(self, lease: Lease, events: Sequence[DeltaEvent]) -> None:
        """Add text deltas to the event log; see `RunLedger.publish`."""
        arguments: list[str | int] = [
            self.topic(lease.run.id),
            lease.fencing_token,
            self._event_ttl,
        ]
        for event in events:
            # A model can break a character in two; half of one cannot be encoded.
            text = event.text.encode(errors="replace").decode()
            sealed = "" if event.sealed is None else encode(event.sealed)
            arguments += [event.position, event.attempt, text, sealed]
        await self._publish(
            [self._keys.run(lease.run.id), self._keys.events(lease.run.id)], arguments
        )

    async def list_events(
        self, run_id: str, *, after: str | None = None, limit: int = 500
    ) -> list[StatusEvent | DeltaEvent]:
        """Events of a run; see `RunLedger.list_events`."""
        low, key = lower_bound(after), self._keys.events(run_id)
        events: list[StatusEvent | DeltaEvent] = []
        while (missing := limit - len(events)) > 0:
            with translated_errors():
                entries: Any = await self._client.xrange(key, low, "+", count=missing)
            events += readable_events(run_id, entries)
            if len(entries) < missing:
                break
            low = f"({entries[-1][0]}"
        return events

    async def beat(self, worker: WorkerInfo) -> None:
        """Announce a worker; see `RunLedger.beat`."""
        await self._workers.beat(worker)

    async def retire(self, worker_id: str) -> None:
        """Announce that a worker is gone; see `RunLedger.retire`."""
        await self._workers.retire(worker_id)

    async def list_workers(self) -> list[WorkerInfo]:
        """Live workers; see `RunLedger.list_workers`."""
        return await self._workers.list_workers()

    async def sweep(
        self,
        worker_id: str,
        *,
        agents: Collection[str],
        limit: int,
        version: int = FORMAT_VERSION,
    ) -> Sweep:
        """Take runs back from dead workers; see `RunLedger.sweep`."""
        names = ready_names(agents, version)
        sweep, damaged = await self._workers.sweep(worker_id, names, limit)
        for run_id in filter(is_run_id, damaged):
            await self._condemn(run_id, worker_id, agents)
        return sweep

    async def find_newer(
        self, *, agents: Collection[str], version: int = FORMAT_VERSION
    ) -> dict[str, int]:
        """Runs that wait for a newer worker; see `RunLedger.find_newer`."""
        return await self._index.find_newer(agents, version)

    def _idempotency_key(self, new: NewRun) -> str:
        if new.idempotency_key is None:
            return self._keys.run(new.id)
        tag = self._keys.tag_of_run(new.id)
        return self._keys.idempotency(tag, new.conversation_id or "", new.idempotency_key)


def _check_partition(new: NewRun) -> None:
    if partition_of_run(new.id) != partition_of_history(new.history_id):
        raise InvalidIdError(
            f"Run id {new.id} lies in another partition than conversation {new.conversation_id}; "
            "make it with new_run_id(partition_of(conversation_id))."
        )


def _check_held(answer: Any, lease: Lease) -> None:
    if answer[0] == "fenced":
        raise FencedError(
            f"Worker {lease.worker_id} holds run {lease.run.id} no longer under fencing token "
            f"{lease.fencing_token}. Another worker leads it, or it has ended."
        )


def _unknown(run_id: str, settings: Settings) -> UnknownRunError:
    return UnknownRunError(
        f"There is no run {run_id}. Records of ended runs are kept for {settings.run_ttl_s:g} s "
        "(AGENTS_RUN_TTL_S)."
    )
