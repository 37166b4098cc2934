"""Ids: what they look like, who makes them, and which ones are refused.

An id ends up in Redis keys, channel names, file names and URLs. One rule holds for all of them: 1
to 200 characters, letters, digits and ``. _ : @ - + =``, and it starts and ends with a letter or a
digit. So there is no separator to escape with, no `..`, no braces that could move a key to another
Redis Cluster slot, and no white space or control character.
"""

import hashlib
import os
import random
import re
import secrets
import time
from typing import Final

from shared.errors import InvalidIdError

MAX_ID_LENGTH: Final = 200
PARTITIONS: Final = 16
"""How many hash tags the keys are spread over; also the largest useful number of cluster masters.

Part of the stored format: another number would look for existing conversations in the wrong place.
"""

_ID: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:@+=-]*[A-Za-z0-9])?")
_RUN_ID: Final = re.compile(r"run-([0-9a-f])-[0-9a-f]{32}")
_ALONE: Final = "~"

_tags: Final = random.Random()  # noqa: S311 - no secret
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tags.seed)


def check_id(value: object, what: str) -> str:
    """Return `value` when it may serve as an id.

    `what` names it in the error ("conversation id", "agent name").

    Raises:
        InvalidIdError: It breaks the rule at the top of this module.
    """
    if not isinstance(value, str) or not value:
        raise InvalidIdError(f"The {what} must be a string of 1 to {MAX_ID_LENGTH} characters.")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidIdError(
            f"The {what} has {len(value)} characters; shorten it to {MAX_ID_LENGTH} or fewer."
        )
    if not _ID.fullmatch(value) or ".." in value:
        raise InvalidIdError(
            f"The {what} {value[:60]!r} may only hold letters, digits and '.', '_', ':', '@', '-', "
            "'+', '=', must start and end with a letter or digit, and may not contain '..'."
        )
    return value


def partition_of(conversation_id: str) -> int:
    """The partition (0 to `PARTITIONS` - 1) in which everything of one conversation lives."""
    return hashlib.blake2b(conversation_id.encode(), digest_size=1).digest()[0] % PARTITIONS


def new_run_id(partition: int) -> str:
    """A new run id: ``run-<partition>-<32 hex digits>``, sortable by time of creation.

    The digits are laid out as in a version 7 UUID: 48 bits of Unix milliseconds, then randomness.
    """
    milliseconds = time.time_ns() // 1_000_000
    return f"run-{partition:x}-{milliseconds:012x}7{secrets.randbits(76):019x}"


def partition_of_run(run_id: object) -> int:
    """The partition that a run id names.

    Raises:
        InvalidIdError: It is not a run id.
    """
    match = _RUN_ID.fullmatch(run_id) if isinstance(run_id, str) else None
    if match is None:
        raise InvalidIdError(
            f"{str(run_id)[:60]!r} is not a run id; pass what `submit` returned as `run.id`."
        )
    return int(match[1], 16)


def is_run_id(value: object) -> bool:
    """Whether something has the form of a run id."""
    return isinstance(value, str) and _RUN_ID.fullmatch(value) is not None


def history_id(run_id: str, conversation_id: str | None) -> str:
    """Where a run's messages are kept: its conversation, or a history of its own.

    The tilde cannot occur in a caller's id, so a run that is alone never meets a conversation.
    """
    return conversation_id if conversation_id is not None else _ALONE + run_id


def is_alone(history: str) -> bool:
    """Whether a history id belongs to a run outside of any conversation."""
    return history.startswith(_ALONE)


def partition_of_history(history: str) -> int:
    """The partition of a history id, whichever of the two kinds it is."""
    if is_alone(history):
        return partition_of_run(history.removeprefix(_ALONE))
    return partition_of(history)


def new_tag() -> str:
    """A name that nothing else has, for what anybody may guess: a message of the broker.

    As unlikely to come twice as a random UUID, whose bits are asked of the operating system: to
    a thread beside a busy event loop that means to wait for its turn. Neither a fork nor a program
    that seeds `random` makes it repeat itself.
    """
    return f"{_tags.getrandbits(128):032x}"
