"""Clocks: where the in-memory stores take the time from, so that a test can move it."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Answers the present time, with a time zone."""


def utc_now() -> datetime:
    """The clock of this machine, in UTC."""
    return datetime.now(UTC)
