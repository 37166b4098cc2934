"""The relay: from the task in which an agent runs to the generator that its events come out of.

The agent has a task of its own, since it opens cancel scopes and sets context variables around its
`yield`s, and both break when the code before and the code behind a `yield` run in different tasks.
"""

import asyncio
from collections import deque

from agent_worker.engine.protocol import EngineEvent


class Relay:
    """Events, handed over in order. One task takes them.

    Who gives an event with `give` waits until the taker has come back for the next one: what
    depends on the event starts no sooner. `push` does not wait.
    """

    def __init__(self) -> None:
        self._events: deque[EngineEvent] = deque()
        self._waiting: list[asyncio.Future[None]] = []
        self._arrived = asyncio.Event()
        self._is_closed = False

    def push(self, event: EngineEvent) -> None:
        """Hand an event over without waiting."""
        self._events.append(event)
        self._arrived.set()

    async def give(self, event: EngineEvent) -> None:
        """Hand an event over, and return when it has been dealt with."""
        self.push(event)
        returned = asyncio.get_running_loop().create_future()
        self._waiting.append(returned)
        await returned

    def close(self) -> None:
        """Say that nothing will come any more."""
        self._is_closed = True
        self._arrived.set()

    async def take(self) -> EngineEvent | None:
        """The next event; None once everything is taken and the relay is closed."""
        if not self._events:
            self._release()
            while not self._events and not self._is_closed:
                self._arrived.clear()
                await self._arrived.wait()
        return self._events.popleft() if self._events else None

    def _release(self) -> None:
        for returned in self._waiting:
            if not returned.done():
                returned.set_result(None)
        self._waiting.clear()
