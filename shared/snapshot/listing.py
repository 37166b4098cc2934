"""What all stores of snapshots do: leave out what is damaged, filter, name what is missing."""

import structlog

from shared.errors import CorruptEntryError, NewerVersionError, UnknownSnapshotError
from shared.snapshot.codec import SnapshotCodec
from shared.snapshot.value import SnapshotInfo

log = structlog.get_logger()


def readable(codec: SnapshotCodec, snapshot_id: str, stored: bytes) -> SnapshotInfo | None:
    """What a list says about a snapshot; None, and a line in the log, where it is damaged.

    Raises:
        NewerVersionError: It is whole, and for newer readers.
        SealError: It cannot be opened, or is not sealed as it has to be.
    """
    try:
        return codec.unpack_info(snapshot_id, stored)
    except NewerVersionError:
        raise
    except CorruptEntryError as error:
        log.error("entry.unreadable", snapshot_id=snapshot_id, error=type(error).__name__)
        return None


def passes(info: SnapshotInfo, agent: str | None, conversation_id: str | None) -> bool:
    """Whether a snapshot passes the filters of a list."""
    return (agent is None or info.agent == agent) and (
        conversation_id is None or info.conversation_id == conversation_id
    )


def unknown(snapshot_id: str) -> UnknownSnapshotError:
    """The error of a store that does not have it."""
    return UnknownSnapshotError(
        f"There is no snapshot {snapshot_id}. List the ones that there are."
    )
