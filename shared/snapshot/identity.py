"""Snapshot ids: UUIDs in their canonical form, by which snapshots are sorted by age."""

import re
import secrets
import time
from typing import Final
from uuid import UUID

from shared.errors import InvalidIdError
from shared.identifier import partition_of

_CANONICAL: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_snapshot_id(conversation_id: str) -> str:
    """A new id: a version 7 UUID, so that later ones sort behind earlier ones (by this clock).

    Its last digit is the conversation's partition, so that a store finds it by the id alone.
    """
    milliseconds = time.time_ns() // 1_000_000
    body = f"{milliseconds:012x}7{secrets.randbits(12):03x}{0b10 << 62 | secrets.randbits(62):016x}"
    return str(UUID(hex=f"{body[:-1]}{partition_of(conversation_id):x}"))


def check_snapshot_id(value: object) -> str:
    """Return `value` when it is a snapshot's id.

    Only the canonical form passes: lower case, with hyphens. It ends up in names of files and keys.

    Raises:
        InvalidIdError: It is something else.
    """
    if not isinstance(value, str) or not _CANONICAL.fullmatch(value):
        raise InvalidIdError(
            f"{str(value)[:60]!r} is not a snapshot id; pass a UUID in lower case with hyphens, as "
            "saving a snapshot returned it."
        )
    return value
