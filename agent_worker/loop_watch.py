"""The loop watch: says in the log that the event loop stood still, for how long, and where.

A worker beats from its loop on purpose. While the loop stands still no run of the worker goes on,
so others shall take them over, and fencing keeps what comes late out of their histories. But it
looks like a crash without a cause, and the cause is nearly always a line in somebody's tool.
"""

import asyncio
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Final, Self

import structlog

FRAMES: Final = 3
"""How many of the innermost calls are named."""
END_S: Final = 1.0
"""How long the end of the thread is waited for."""

log = structlog.get_logger()


class LoopWatch:
    """Asks the loop for a sign of life, from a thread of its own, for the length of a `with` block.

    Entered on the loop's thread. A loop that gives none for `limit_s` is reported, once it does,
    as `loop.blocked`; a process that was stopped or starved as a whole, as `process.stalled`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, limit_s: float) -> None:
        self._loop = loop
        self._limit_s = limit_s
        self._ended = threading.Event()
        self._watched = 0
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)

    def __enter__(self) -> Self:
        self._watched = threading.get_ident()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(END_S)

    def _watch(self) -> None:
        while not self._waited_out(self._ended):
            is_alive = threading.Event()
            asked = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(is_alive.set)
            except RuntimeError:  # it is closed
                return
            if not self._waited_out(is_alive):
                self._report_block(is_alive, asked)

    def _waited_out(self, event: threading.Event) -> bool:
        """Wait up to the limit; whether the event came. A wait that took longer is reported."""
        started = time.monotonic()
        has_come = event.wait(self._limit_s)
        stalled_s = time.monotonic() - started - self._limit_s
        if stalled_s > self._limit_s:
            log.warning("process.stalled", stalled_s=round(stalled_s, 1))
            return event.wait(self._limit_s)
        return has_come

    def _report_block(self, is_alive: threading.Event, asked: float) -> None:
        where = _innermost(sys._current_frames().get(self._watched))  # noqa: SLF001  the one way
        while not is_alive.wait(self._limit_s):
            if self._ended.is_set():
                return
        blocked_s = round(time.monotonic() - asked, 1)
        log.warning(
            "loop.blocked",
            blocked_s=blocked_s,
            where=where,
            advice="make the tool a plain `def`, which gets a thread, or await what it waits for",
        )


def _innermost(frame: FrameType | None) -> list[str]:
    """The innermost calls of a thread, the last one first."""
    calls: list[str] = []
    while frame is not None and len(calls) < FRAMES:
        module = frame.f_globals.get("__name__", "?")
        calls.append(f"{module}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return calls
