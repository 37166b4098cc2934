"""The records of runs, in memory, and the idempotency keys that lead to them."""

from collections.abc import Iterator
from itertools import dropwhile, islice

from shared.errors import IdempotencyConflictError, UnknownRunError
from shared.identifier import partition_of_run
from shared.memory.clock import Clock
from shared.memory.expiry import Expiry
from shared.request_digest import request_digest
from shared.run import NewRun, Run

_Key = tuple[str, str]
"""An idempotency key behind its scope: a conversation's id, or '' for all runs that are alone."""


class RunTable:
    """Runs in the order of their submits. It stores what it is given and decides nothing."""

    def __init__(self, *, run_ttl_s: float, idempotency_ttl_s: float, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, Run] = {}
        self._conversations: dict[str, None] = {}  # the one with the newest run last
        self._keys: dict[_Key, str] = {}
        self._ended: Expiry[str] = Expiry(run_ttl_s, clock)
        self._used_keys: Expiry[_Key] = Expiry(idempotency_ttl_s, clock)

    def __getitem__(self, run_id: str) -> Run:
        return self._runs[run_id]

    def find(self, run_id: str) -> Run | None:
        """The run with this id, if there is one.

        Raises:
            InvalidIdError: It is not a run id.
        """
        partition_of_run(run_id)
        return self._runs.get(run_id)

    def get(self, run_id: str) -> Run:
        """The run with this id.

        Raises:
            InvalidIdError: It is not a run id.
            UnknownRunError: There is none.
        """
        run = self.find(run_id)
        if run is None:
            raise UnknownRunError(
                f"There is no run {run_id}: it was never submitted here, or it ended so long ago "
                "that it was forgotten (AGENTS_RUN_TTL_S)."
            )
        return run

    def find_repeated(self, new: NewRun) -> Run | None:
        """The run that this one repeats, by its id or its idempotency key.

        Raises:
            IdempotencyConflictError: Its key belongs to another request.
        """
        if new.id in self._runs:
            return self._runs[new.id]
        key = _key_of(new)
        if key is None or key not in self._keys:
            return None
        known = self._runs[self._keys[key]]
        if request_digest(known) != request_digest(new):
            raise IdempotencyConflictError(
                f"The idempotency key {new.idempotency_key!r} was used for run {known.id}, with "
                "another agent or input; use a new key for a new request.",
                run_id=known.id,
            )
        return known

    def add(self, new: NewRun) -> Run:
        """Make the record of a new run."""
        fields = {name: getattr(new, name) for name in NewRun.model_fields}
        run = self._runs[new.id] = Run(
            **fields, needs_version=new.version, created_at=self._clock()
        )
        key = _key_of(new)
        if key is not None:
            self._keys[key] = run.id
            self._used_keys.schedule(key)
        if run.conversation_id is not None:
            self._conversations.pop(run.conversation_id, None)
            self._conversations[run.conversation_id] = None
        return run

    def replace(self, run: Run) -> None:
        """Put a newer version of a record in the place of the one there is."""
        self._runs[run.id] = run

    def remove(self, run: Run) -> None:
        """Drop a record and free its idempotency key."""
        del self._runs[run.id]
        self._ended.cancel(run.id)
        key = _key_of(run)
        if key is not None and self._keys.get(key) == run.id:
            del self._keys[key]
            self._used_keys.cancel(key)

    def withdraw(self, run: Run) -> None:
        """Drop a record as if it had never been there."""
        self.remove(run)
        name = run.conversation_id
        if name is not None and all(run.conversation_id != name for run in self._runs.values()):
            self._conversations.pop(name, None)

    def remove_conversation(self, conversation_id: str) -> list[Run]:
        """Drop all runs of a conversation; return them."""
        removed = [run for run in self._runs.values() if run.conversation_id == conversation_id]
        for run in removed:
            self.remove(run)
        self._conversations.pop(conversation_id, None)
        return removed

    def expire_later(self, run: Run) -> None:
        """Keep the record of a run that ended for its time, not for ever."""
        self._ended.schedule(run.id)

    def take_expired(self) -> list[Run]:
        """Drop what has had its time; return the runs among it."""
        for key in self._used_keys.take_due():
            del self._keys[key]
        expired = [self._runs[run_id] for run_id in self._ended.take_due()]
        for run in expired:
            self.remove(run)
        return expired

    def newest_first(self, *, before: str | None) -> Iterator[Run]:
        """All runs, the last submitted one first; those older than `before` if that is given.

        Raises:
            UnknownRunError: There is no run `before`.
        """
        newest_first = reversed(self._runs.values())
        if before is None:
            return newest_first
        self.get(before)
        return islice(dropwhile(lambda run: run.id != before, newest_first), 1, None)

    def conversations(self) -> Iterator[str]:
        """Ids of conversations that had a run, the one with the newest run first."""
        return reversed(self._conversations)


def _key_of(new: NewRun) -> _Key | None:
    if new.idempotency_key is None:
        return None
    return (new.conversation_id or "", new.idempotency_key)
