"""Admission: what a message must be to be stored, whatever engine made it."""

import json
from typing import Final

from agent_worker.execution.closing import failed
from shared.codec import encode
from shared.errors import UnstorableError
from shared.message import Draft
from shared.nesting import MAX_DEPTH, is_too_deep
from shared.run import Ending

_WRAPPING: Final = 8
"""Levels that a message itself adds to what it holds."""


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
    if _is_nested_too_deeply(stored):
        return failed(
            "message_unstorable",
            f"A message of the run ({draft.kind.value}) is nested deeper than {MAX_DEPTH} levels, "
            "so that nobody could read it again.",
        )
    return None


def _is_nested_too_deeply(stored: str) -> bool:
    if stored.count("[") + stored.count("{") <= MAX_DEPTH:
        return False  # which nearly all are, at next to no cost
    try:
        return is_too_deep(json.loads(stored), MAX_DEPTH + _WRAPPING)
    except RecursionError:
        return True
