"""Capacity: how many runs a worker takes at once, and who waits for the next free slot."""

import asyncio
from collections import deque


class Capacity:
    """Slots, given out first come, first served. Used from one event loop only."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._is_closed = False

    @property
    def free(self) -> int:
        """How many slots `try_acquire` would give out now."""
        return 0 if self._is_closed else self._free

    def try_acquire(self) -> bool:
        """Take a slot if there is one. Somebody waits only while there is none."""
        if not self.free:
            return False
        self._free -= 1
        return True

    async def acquire(self) -> bool:
        """Wait for a slot and take it; False, at once, when no more are given out."""
        if self._is_closed:
            return False
        if self.try_acquire():
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.release()  # the slot came in the same moment: the next one may have it
            raise

    def release(self) -> None:
        """Give a slot back, to whoever waits longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._free += 1

    def close(self) -> None:
        """Give out no more slots and tell everybody who waits. Slots still come back."""
        self._is_closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(False)
