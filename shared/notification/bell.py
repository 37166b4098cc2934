"""A bell: what somebody waits for, with a limit on how long."""

import asyncio


class Bell:
    """Rung by any number of sources, waited for by one task.

    Watchers wait once for each message. This costs a fraction of `asyncio.timeout` around an
    `asyncio.Event`. All of it happens in the event loop of who waits.
    """

    __slots__ = ("_is_rung", "_waiter")

    def __init__(self) -> None:
        self._is_rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake who waits, or who waits next."""
        self._is_rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Forget that it was rung. Whoever looks at its sources next misses nothing."""
        self._is_rung = False

    async def wait(self, timeout_s: float) -> None:
        """Return when it was rung since it was cleared, or when the time is over."""
        if self._is_rung:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        limit = loop.call_later(timeout_s, _wake, self._waiter)
        try:
            await self._waiter
        finally:
            limit.cancel()
            self._waiter = None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
