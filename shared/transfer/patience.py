"""Waiting for a store that does not answer for a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from shared.errors import StoreUnavailableError

Value = TypeVar("Value")

log = structlog.get_logger()

_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


def _nothing() -> int:
    return 0


async def patiently(
    step: Callable[[], Awaitable[Value]],
    patience_s: float,
    what: str,
    *,
    progress: Callable[[], int] = _nothing,
) -> Value:
    """Do a step that may be repeated, until its store answers. `what` names it in the log.

    A try that got further than those before it, by what `progress` answers, begins the time anew.

    Raises:
        StoreUnavailableError: It did not for `patience_s`.
    """
    deadline, furthest = float("inf"), -1
    pause_s = _PAUSE_S
    while True:
        try:
            return await step()
        except StoreUnavailableError as error:
            if progress() > furthest:
                deadline, furthest = time.monotonic() + patience_s, progress()
                pause_s = _PAUSE_S
            if time.monotonic() + pause_s > deadline:
                raise
            log.warning("transfer.waiting", conversation_id=what, reason=str(error))
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
