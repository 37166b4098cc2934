"""Between a run's hash in Redis and a `Run`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from shared.codec import decode
from shared.errors import CorruptEntryError, InvalidIdError, NewerVersionError
from shared.event import DeltaEvent, StatusEvent
from shared.identifier import check_id, partition_of_run
from shared.ledger.protocol import WakeUp
from shared.message import Sealed
from shared.run import Ending, NewRun, Run, RunStatus
from shared.version import FORMAT_VERSION

log = structlog.get_logger()

UNREADABLE: Final = (ValueError, LookupError, TypeError, ArithmeticError, OSError)
"""What reading a field raises that holds something else; OSError comes from impossible times."""

_MAX_DIGITS: Final = 10


def milliseconds(seconds: float) -> int:
    """A duration as Redis takes it."""
    return max(1, int(seconds * 1000))


def read_run(run_id: str, answer: Mapping[str, str] | Sequence[str]) -> Run:
    """Build a run from its hash, given as a mapping or flat as scripts answer.

    Raises:
        CorruptEntryError: The hash is not a run's record.
        NewerVersionError: A newer version of this project wrote it.
    """
    where = f"The record of run {run_id}"
    try:
        record = answer if isinstance(answer, Mapping) else _mapping(answer)
        _check_version(record, where)
        check_text(*record.values())
        new = decode(NewRun, record["new"], where=where)
        ending = decode(Ending, record["ending"], where=where) if "ending" in record else None
        _check_same(new, run_id, record)
        return _build(new, record, ending)
    except UNREADABLE as error:
        if isinstance(error, CorruptEntryError):
            raise
        raise CorruptEntryError(f"{where} cannot be read ({type(error).__name__}).") from error


def _check_same(new: NewRun, run_id: str, record: Mapping[str, str]) -> None:
    """Compare what was submitted with the fields beside it, which scripts go by.

    A run in which the two differ would be executed by the wrong agent, or write to somebody else's
    conversation.
    """
    told = (run_id, record["agent"], record["history"])
    if told != (new.id, new.agent, new.history_id):
        raise CorruptEntryError(
            f"The record of run {run_id} cannot be read: its fields contradict what was submitted."
        )


def check_agent(run_id: str, agent: str) -> None:
    """Raises `CorruptEntryError` for a run that no worker will ever serve."""
    try:
        check_id(agent, "agent name")
    except InvalidIdError as error:
        raise CorruptEntryError(f"The record of run {run_id} names no agent.") from error


def _check_version(record: Mapping[str, str], where: str) -> None:
    """Refuse what a newer version wrote, though it may look readable: it may mean something else.

    Raises:
        NewerVersionError: This process does not know its version.
    """
    version = record.get("version", "")
    if version.isdecimal() and len(version) < _MAX_DIGITS and int(version) > FORMAT_VERSION:
        raise NewerVersionError(
            f"{where} has version {version}, this process reads up to {FORMAT_VERSION}; update it.",
            int(version),
        )


def _build(new: NewRun, record: Mapping[str, str], ending: Ending | None) -> Run:
    outcome: dict[str, Any] = (
        {
            "output": ending.output,
            "usage": ending.usage,
            "spending": ending.spending,
            "rounds": ending.rounds,
            "error": ending.error,
            "sealed_outcome": ending.sealed,
        }
        if ending is not None
        else {}
    )
    return Run(
        **{name: getattr(new, name) for name in NewRun.model_fields},
        status=RunStatus(record["status"]),
        created_at=_moment(record["created"]),
        started_at=_moment(record["started"]) if "started" in record else None,
        finished_at=_moment(record["finished"]) if "finished" in record else None,
        worker_id=record.get("worker"),
        fencing_token=int(record.get("token", 0)),
        attempts=int(record["attempts"]),
        crashes=int(record["crashes"]),
        strikes=int(record.get("strikes", 0)),
        is_suspect=record.get("suspect") == "1",
        needs_version=int(record.get("needs", new.version)),
        cancel_requested=record.get("cancel") == "1",
        rollback_requested=record.get("rollback") == "1",
        **outcome,
    )


def read_wake_up(answer: Sequence[str]) -> WakeUp:
    """What scripts answer as {id, agent, priority}.

    Raises:
        CorruptEntryError: The record that it comes from lacks one of them.
    """
    try:
        run_id, agent, priority = answer
        partition_of_run(run_id)
        return WakeUp(run_id, check_id(agent, "agent name"), min(9, max(0, int(priority))))
    except UNREADABLE as error:
        raise CorruptEntryError(f"The wake-up {answer!r:.200} cannot be read.") from error


def read_event(run_id: str, cursor: str, fields: Mapping[str, str]) -> StatusEvent | DeltaEvent:
    """One entry of a run's event stream; its time is in its id.

    Raises:
        CorruptEntryError: It is neither a status change nor a text delta.
    """
    try:
        check_text(*fields.values())
        if fields["type"] == "delta":
            return DeltaEvent(
                run_id=run_id,
                cursor=cursor,
                text=fields["text"],
                position=int(fields["position"]),
                attempt=int(fields["attempt"]),
                sealed=_seal_of(fields.get("sealed"), cursor),
            )
        return StatusEvent(
            run_id=run_id,
            cursor=cursor,
            status=RunStatus(fields["status"]),
            worker_id=fields.get("worker") or None,
            attempt=int(fields["attempt"]),
            rolled_back=fields.get("rolled_back") == "1",
            created_at=_moment(cursor.partition("-")[0]),
        )
    except UNREADABLE as error:
        raise CorruptEntryError(f"Event {cursor} of run {run_id} cannot be read.") from error


def _seal_of(stored: str | None, cursor: str) -> Sealed | None:
    return None if stored is None else decode(Sealed, stored, where=f"The seal of event {cursor}")


def readable_events(
    run_id: str, entries: Iterable[tuple[str, Mapping[str, str]]]
) -> list[StatusEvent | DeltaEvent]:
    """Read entries of a run's event stream; one that cannot be read is reported and left out."""
    events = []
    for cursor, fields in entries:
        try:
            events.append(read_event(run_id, cursor, fields))
        except CorruptEntryError as error:
            log.error("entry.unreadable", run_id=run_id, cursor=cursor, error=type(error).__name__)
    return events


def check_text(*values: str) -> None:
    """Refuse bytes that were no UTF-8; redis-py lets them through as halves of surrogate pairs.

    Raises:
        ValueError: There are some. Whoever wrote them out again would fail.
    """
    for value in values:
        str.encode(value)


def _mapping(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _moment(stored: str) -> datetime:
    return datetime.fromtimestamp(int(stored) / 1000, UTC)
