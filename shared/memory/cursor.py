"""Cursors of the in-memory logs.

They look like Redis Stream ids, so that nothing learns to tell the two apart.
"""

import re
from typing import Final

from shared.errors import InvalidCursorError

_CURSOR: Final = re.compile(r"([0-9]{1,20})-0")


def format_cursor(number: int) -> str:
    """The cursor of the entry with this number."""
    return f"{number}-0"


def parse_cursor(cursor: str) -> int:
    """The number that `format_cursor` was given.

    Raises:
        InvalidCursorError: It is not such a cursor.
    """
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidCursorError(
            f"{cursor[:60]!r} is not a cursor; pass one that a message or an event carries."
        )
    return int(match[1])
