"""Cursors of lists of records: the place of the last one that was listed."""

import re
from datetime import datetime
from typing import Final

from shared.errors import InvalidCursorError

Place = tuple[int, str]
"""Where a record stands in a list: its last activity in Unix milliseconds, then its id."""

_CURSOR: Final = re.compile(r"([0-9]{1,15})/(\S{1,200})")


def format_place(place: Place) -> str:
    """The cursor of a place."""
    return f"{place[0]}/{place[1]}"


def parse_place(cursor: str) -> Place:
    """What `format_place` was given.

    Raises:
        InvalidCursorError: It is no such cursor.
    """
    match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if match is None:
        raise InvalidCursorError(
            f"{str(cursor)[:60]!r} is no cursor of a list of conversations; pass `next` of a page."
        )
    return int(match[1]), match[2]


def milliseconds_of(when: datetime) -> int:
    """Unix milliseconds, as stores keep times."""
    return round(when.timestamp() * 1000)
