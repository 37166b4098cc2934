"""Connections to PostgreSQL: where it is, how long anything may take, and a few of them for many.

There is a pool of our own over psycopg's connections. psycopg's pool connects in tasks of its own:
who waits for a connection learns from it that time is up, and neither that the password is wrong
nor that nobody listens; and after an outage it goes on waiting for up to as long again. This one
connects for whoever asks, who gets the error at once.
"""

import asyncio
import selectors
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncConnection, waiting
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from shared.errors import ConfigurationError, StoreUnavailableError
from shared.postgres_fault import translated_errors

SCHEMES: Final = ("postgresql", "postgres")
IDLE_S: Final = 60.0
"""A connection that nobody needed for so long is closed."""
_CONFLICTS: Final = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
_TRIES: Final = 5
_SET_UP: Final = """
    SELECT set_config('statement_timeout', %s, false),
        set_config('default_transaction_isolation', 'read committed', false)
"""

Statement = LiteralString | bytes


class Connection(AsyncConnection[TupleRow]):
    """A connection that is given up when a wait for it is.

    psycopg would ask the server to cancel the statement, and wait for that: up to ten more seconds
    where the network is gone. The server ends statements by itself after the same time.
    """

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval, timeout)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.pgconn.finish()
            raise


def parse_postgres_url(url: str, *, timeout_s: float) -> dict[str, Any]:
    """What to connect with; parameters behind the ``?`` of a URL are those of libpq.

    Raises:
        ConfigurationError: It is no URL of PostgreSQL. The message never quotes it, since what is
            out of place in it may be a part of a password.
    """
    if url.partition("://")[0] not in SCHEMES:
        raise _bad_url("it has to start with postgresql://")
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise _bad_url("a part of it cannot be read") from None
    if any(port and not port.isdecimal() for port in str(given.get("port") or "").split(",")):
        raise _bad_url("a port in it is not a number")
    hosts = str(given.get("host") or "").split(",")
    several: dict[str, Any] = {
        "target_session_attrs": "read-write",
        # Of each: one that hangs must leave the others time. libpq takes no less than two seconds.
        "connect_timeout": max(2, int(timeout_s / len(hosts))),
    }
    return {
        "application_name": "celery-agents",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": int(timeout_s * 1000),
        **(several if len(hosts) > 1 else {}),
        **given,
        "client_encoding": "UTF8",
    }


def _bad_url(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"AGENTS_CONVERSATION_URL is no URL of PostgreSQL ({why}); it looks like "
        "postgresql://user:password@host:5432/database. In a password, write characters like "
        "/ ? # @ as %2F %3F %23 %40."
    )


class PostgresClient:
    """Up to `connections` connections, each for one statement at a time.

    Nothing connects before the first statement. Every answer takes `timeout_s` at most, the wait
    for a free connection and connecting included. Connections that broke while nobody used them,
    as by a restart of the server, are replaced without anybody noticing.
    """

    def __init__(self, options: Mapping[str, Any], *, timeout_s: float, connections: int) -> None:
        self._options = dict(options)
        self.timeout_s = timeout_s
        self._size = connections
        self._free = asyncio.Semaphore(connections)
        self._idle: deque[tuple[Connection, float]] = deque()
        """Those that nobody uses, with the time of their last use; the newest is taken first."""
        self._is_closed = False

    async def fetch(self, statement: Statement, parameters: Sequence[Any] = ()) -> list[TupleRow]:
        """Execute one statement, which is a transaction of its own, and return its rows.

        Raises:
            ConfigurationError: PostgreSQL lets this user not in, or not do it.
            StoreUnavailableError: No answer in time. It may have been executed.
        """
        for attempt in range(1, _TRIES + 1):
            try:
                async with self.borrowed() as connection:
                    cursor = await connection.execute(statement, parameters)
                    return await cursor.fetchall() if cursor.description else []
            except StoreUnavailableError as error:
                # Nothing of a transaction that was in conflict with another is left.
                if not isinstance(error.__cause__, _CONFLICTS) or attempt == _TRIES:
                    raise
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Connection]:
        """A connection for a block that takes `timeout_s` at most; errors are translated."""
        if self._is_closed:
            raise StoreUnavailableError("This store is closed; build a new one.")
        has_slot = False
        with translated_errors():
            try:
                async with asyncio.timeout(self.timeout_s), self._free:
                    has_slot = True
                    connection = self._take_idle() or await self.connect()
                    try:
                        yield connection
                    finally:
                        self._give_back(connection)
            except TimeoutError as error:
                raise self._out_of_time(is_crowded=not has_slot) from error

    async def connect(self) -> Connection:
        """A connection of the caller's own, to be bounded and closed. Errors are psycopg's."""
        connection = await Connection.connect(autocommit=True, **self._options)
        try:
            await connection.execute(_SET_UP, [str(int(self.timeout_s * 1000))])
        except BaseException:
            connection.pgconn.finish()
            raise
        return connection

    async def aclose(self) -> None:
        """Close all connections; those in use, once they are given back."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop()[0].close()

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.pop()
            if _is_silent(connection):
                return connection
            connection.pgconn.finish()
        return None

    def _give_back(self, connection: Connection) -> None:
        now = time.monotonic()
        is_whole = not connection.closed and (
            connection.pgconn.transaction_status == TransactionStatus.IDLE
        )
        if not is_whole or self._is_closed:
            connection.pgconn.finish()
            return
        self._idle.append((connection, now))
        while self._idle[0][1] < now - IDLE_S:
            unneeded, _ = self._idle.popleft()
            unneeded.pgconn.finish()

    def _out_of_time(self, *, is_crowded: bool) -> StoreUnavailableError:
        if is_crowded:
            return StoreUnavailableError(
                f"All {self._size} connections to PostgreSQL were in use for {self.timeout_s:g} s. "
                "Raise AGENTS_CONVERSATION_CONNECTIONS, or find out what it is busy with; trying "
                "again is safe."
            )
        return StoreUnavailableError(
            "PostgreSQL did not answer within AGENTS_CONVERSATION_TIMEOUT_S "
            f"({self.timeout_s:g} s). Check that it runs and AGENTS_CONVERSATION_URL; trying again "
            "is safe."
        )


def _is_silent(connection: Connection) -> bool:
    """Whether nothing has come over a connection that nobody used: a server says goodbye so."""
    if connection.closed:
        return False
    with selectors.DefaultSelector() as selector:
        selector.register(connection.pgconn.socket, selectors.EVENT_READ)
        return not selector.select(0)
