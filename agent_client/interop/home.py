"""The home of a store: the one event loop that it lives in, for callers from any other."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

from agent_client.blocking import AgentClient, inside
from agent_client.client import AsyncAgentClient
from agent_client.portal import Portal, settled
from shared.backend_building import open_conversations
from shared.conversation.protocol import ConversationStore
from shared.errors import ConfigurationError
from shared.settings import Settings

Value = TypeVar("Value")
Work = Callable[[ConversationStore], Coroutine[Any, Any, Value]]


class Home(Protocol):
    """Where a store lives."""

    async def run(self, work: Work[Value]) -> Value:
        """Await `work(store)` in the store's loop, from whichever loop this is called in.

        Who is cancelled while waiting leaves when the work has come to its end: it may have changed
        something, and what comes after has to know.

        Raises:
            RequestError: The home is closed.
            ConfigurationError: The store's loop has ended.
        """
        ...

    def close(self) -> None:
        """Close what was opened here, from any thread or loop; repeating it is harmless."""
        ...


class OwnHome:
    """A store that is opened in a thread of its own, with the first use, and closed there."""

    def __init__(self, open_store: Callable[[], ConversationStore]) -> None:
        self._open_store = open_store
        self._portal = Portal()
        self._store: ConversationStore | None = None

    async def run(self, work: Work[Value]) -> Value:
        async def opened() -> Value:
            if self._store is None:
                self._store = self._open_store()
            return await work(self._store)

        return await self._portal.run(opened)

    def close(self) -> None:
        async def close_store() -> None:
            if self._store is not None:
                await self._store.aclose()

        self._portal.close(close_store)


class PortalHome:
    """The store of a blocking client, which lives in the client's thread and closes it."""

    def __init__(self, portal: Portal, store: ConversationStore) -> None:
        self._portal = portal
        self._store = store

    async def run(self, work: Work[Value]) -> Value:
        async def begun() -> Value:
            return await work(self._store)

        return await self._portal.run(begun)

    def close(self) -> None:
        """Nothing: the client closes it."""


class LoopHome:
    """A store of the caller's, which lives in the loop that is running when it is passed in.

    Where none is, it is the first loop that uses it.
    """

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):  # built outside of a loop
            self._loop = asyncio.get_running_loop()

    async def run(self, work: Work[Value]) -> Value:
        here = asyncio.get_running_loop()
        home = self._home(here)
        if home is here:
            return (await settled(asyncio.ensure_future(work(self._store)))).result()
        future = asyncio.run_coroutine_threadsafe(work(self._store), home)
        return (await settled(asyncio.wrap_future(future))).result()

    def close(self) -> None:
        """Nothing: who opened the store closes it."""

    def _home(self, here: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        with self._lock:
            # A store without connections has nothing that is bound to a loop which has ended.
            if self._loop is None or (self._loop.is_closed() and not self._store.is_distributed):
                self._loop = here
            if self._loop is not here and not self._loop.is_running():
                raise ConfigurationError(
                    "This store lives in an event loop that is not running any more. Pass its URL "
                    "instead, which may be used from any loop, or a store for each loop."
                )
            return self._loop


def find_home(
    place: "str | ConversationStore | AsyncAgentClient | AgentClient", settings: Settings | None
) -> Home:
    """The home of what a URL, a store or a client stands for."""
    if isinstance(place, str):
        return OwnHome(partial(open_conversations, place, settings))
    if isinstance(place, AgentClient):
        client, portal = inside(place)
        return PortalHome(portal, client.conversation_store)
    if isinstance(place, AsyncAgentClient):
        return LoopHome(place.conversation_store)
    return LoopHome(place)
