"""Notifications over PostgreSQL's LISTEN and NOTIFY: one connection for all topics of a process."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final
from uuid import uuid4

import psycopg
import structlog
from psycopg import sql

from shared.errors import AgentsError, ConfigurationError, StoreUnavailableError
from shared.notification.bell import Bell
from shared.notification.listener import RECONNECTED, Listener, closed_error
from shared.postgres_client import Connection, PostgresClient
from shared.postgres_fault import translated_errors

log = structlog.get_logger()

IDLE_S: Final = 10.0
"""After so long without a word the connection is asked whether it lives."""

_PING: Final = "SELECT pg_notify(%s, %s)"


class PostgresNotifications:
    """See `Notifications`. There is one channel; a payload names its topic in its first line.

    One task owns the connection. When it breaks, the task opens another one, for ever, and gives
    each listener a hint, since something may have been published meanwhile. A connection counts
    once a hint of our own has come back over it: a pooler that shares connections between clients
    would deliver none.
    """

    def __init__(self, client: PostgresClient, channel: str) -> None:
        self._client = client
        self._channel = channel
        self._own_topic = f"ping {uuid4().hex}"
        """No topic of anybody: it holds a space."""
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._is_live = asyncio.Event()
        self._has_been_live = False
        self._server: asyncio.Task[None] | None = None
        self._refusal: Exception | None = None
        """Why nobody could listen when that was last tried."""
        self._is_closed = False

    @asynccontextmanager
    async def subscribe(
        self, topic: str, *, bell: Bell | None = None
    ) -> AsyncGenerator[Listener, None]:
        """Listen to a topic; see `Notifications.subscribe`."""
        async with self._listening(topic, Listener(bell=bell)) as listener:
            yield listener

    @asynccontextmanager
    async def listen(self, topic: str) -> AsyncGenerator[AsyncIterator[str], None]:
        """Every payload of a topic; an empty one means that some may have been missed."""
        async with self._listening(topic, Listener(keeps_payloads=True)) as listener:
            yield listener.every_payload()

    async def aclose(self) -> None:
        """End all waits and give the connection back; see `Notifications.aclose`."""
        self._is_closed = True
        for listeners in list(self._listeners.values()):
            for listener in list(listeners):
                listener.close()
        server, self._server = self._server, None
        if server is not None:
            server.cancel()
            await asyncio.wait([server])

    @asynccontextmanager
    async def _listening(self, topic: str, listener: Listener) -> AsyncGenerator[Listener, None]:
        if self._is_closed:
            raise closed_error()
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve(), name="conversation notifications")
        # Before the connection is waited for: once it is there, all that is published reaches this.
        self._listeners[topic].add(listener)
        try:
            await self._wait_live()
            yield listener
        finally:
            self._listeners[topic].discard(listener)
            if not self._listeners[topic]:
                del self._listeners[topic]

    async def _wait_live(self) -> None:
        try:
            async with asyncio.timeout(self._client.timeout_s):
                await self._is_live.wait()
        except TimeoutError as error:
            if isinstance(self._refusal, ConfigurationError):
                raise self._refusal from error
            raise StoreUnavailableError(
                "PostgreSQL lets nobody listen within AGENTS_CONVERSATION_TIMEOUT_S "
                f"({self._client.timeout_s:g} s). Check that it runs and AGENTS_CONVERSATION_URL, "
                "which must not lead to a pooler that shares connections; trying again is safe."
            ) from error

    async def _serve(self) -> None:
        """Keep a connection open and hand out what arrives. Ends only by being cancelled."""
        delay_s = 0.1
        while True:
            connection: Connection | None = None
            try:
                with translated_errors():
                    async with asyncio.timeout(self._client.timeout_s):
                        connection = await self._open()
                    delay_s = 0.1
                    self._go_live()
                    await self._read(connection)
            except (AgentsError, psycopg.Error) as error:
                self._refusal = error
                log.warning("notifications.disconnected", error=str(error), retry_s=delay_s)
            finally:
                self._is_live.clear()
                if connection is not None:
                    connection.pgconn.finish()
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, 2.0)

    async def _open(self) -> Connection:
        """A connection over which hints come for sure."""
        connection = await self._client.connect()
        try:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            await connection.execute(_PING, [self._channel, f"{self._own_topic}\n"])
            async with aclosing(connection.notifies()) as notices:
                async for notice in notices:
                    if notice.payload.startswith(self._own_topic):
                        break
        except BaseException:
            connection.pgconn.finish()
            raise
        return connection

    def _go_live(self) -> None:
        self._refusal = None
        self._is_live.set()
        if self._has_been_live:
            for topic in list(self._listeners):
                self._tell(topic, RECONNECTED)
        self._has_been_live = True

    async def _read(self, connection: Connection) -> None:
        """Hand out what comes; raise when the connection is broken."""
        while True:
            async for notice in connection.notifies(timeout=IDLE_S):
                topic, _, payload = notice.payload.partition("\n")
                self._tell(topic, payload)
            async with asyncio.timeout(self._client.timeout_s):
                await connection.execute("SELECT 1")

    def _tell(self, topic: str, payload: str) -> None:
        for listener in list(self._listeners.get(topic, ())):
            listener.hear(payload)
