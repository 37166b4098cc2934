"""Admission: what a message must be to be stored, whatever engine made it."""

from agent_worker.execution.closing import failed
from shared.codec import encode
from shared.errors import UnstorableError
from shared.message import Draft
from shared.run import Ending


def refused(draft: Draft, max_bytes: int) -> Ending | None:
    """How the run ends because of this message; None for one that can be stored and read again."""
    try:
        stored = encode(draft)
    except UnstorableError as error:
        return failed("message_unstorable", str(error))
    if len(stored) > max_bytes or len(stored.encode()) > max_bytes:
        return failed(
            "message_too_large",
            f"A message of the run ({draft.kind.value}) takes {len(stored)} bytes or more as JSON; "
            f"AGENTS_MAX_MESSAGE_BYTES is {max_bytes}.",
        )
    return None
