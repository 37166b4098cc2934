"""Between a run's hash in Redis and a `Run`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from shared.codec import decode
from shared.errors import CorruptEntryError, NewerVersionError
from shared.event import DeltaEvent, StatusEvent
from shared.ledger.protocol import WakeUp
from shared.run import RUN_VERSION, Ending, NewRun, Run, RunStatus


def milliseconds(seconds: float) -> int:
    """A duration as Redis takes it."""
    return max(1, int(seconds * 1000))


def read_run(run_id: str, answer: Mapping[str, str] | Sequence[str]) -> Run:
    """Build a run from its hash, given as a mapping or flat as scripts answer.

    Raises:
        CorruptEntryError: The hash is not a run's record.
        NewerVersionError: A newer version of this project wrote it.
    """
    record = answer if isinstance(answer, Mapping) else _mapping(answer)
    where = f"The record of run {run_id}"
    new = decode(NewRun, record.get("new", ""), where=where)
    ending = decode(Ending, record["ending"], where=where) if "ending" in record else None
    try:
        return _build(new, record, ending)
    except (ValidationError, ValueError, KeyError) as error:
        if int(record.get("version", RUN_VERSION)) > RUN_VERSION:
            raise NewerVersionError(
                f"{where} was written by a newer version; update this process."
            ) from error
        raise CorruptEntryError(f"{where} cannot be read: {error}") from error


def _build(new: NewRun, record: Mapping[str, str], ending: Ending | None) -> Run:
    outcome: dict[str, Any] = (
        {
            "output": ending.output,
            "usage": ending.usage,
            "rounds": ending.rounds,
            "error": ending.error,
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
        cancel_requested=record.get("cancel") == "1",
        rollback_requested=record.get("rollback") == "1",
        **outcome,
    )


def read_wake_up(answer: Sequence[str]) -> WakeUp:
    """What scripts answer as {id, agent, priority}."""
    return WakeUp(run_id=answer[0], agent=answer[1], priority=int(answer[2]))


def read_event(run_id: str, cursor: str, fields: Mapping[str, str]) -> StatusEvent | DeltaEvent:
    """One entry of a run's event stream; its time is in its id.

    Raises:
        CorruptEntryError: It is neither a status change nor a text delta.
    """
    try:
        if fields["type"] == "delta":
            return DeltaEvent(
                run_id=run_id,
                cursor=cursor,
                text=fields["text"],
                position=int(fields["position"]),
                attempt=int(fields["attempt"]),
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
    except (KeyError, ValueError) as error:
        raise CorruptEntryError(f"Event {cursor} of run {run_id} cannot be read.") from error


def _mapping(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _moment(stored: str) -> datetime:
    return datetime.fromtimestamp(int(stored) / 1000, UTC)
