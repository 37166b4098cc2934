"""Redis clients whose callers share a connection.

redis-py takes a connection out of its pool for each command, sends, waits and puts it back. Here
commands are written to one connection as they come, all those of one turn of the event loop in one
packet, and answers are matched in the order in which they arrive: a fraction of the work, and of
the connections. What holds a connection up (pub/sub, pipelines with WAIT) has one of its own, out
of the same pool.

Connecting is redis-py's: TLS, users, databases, and the primary that sentinels name.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Final

import hiredis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

DOUBT_S: Final = 0.5
"""After so long without an answer a connection is doubted: what comes next goes over another one.

Its server may only be slow, so what was sent over it is waited for as long as ever. But where
packets vanish, a worker's next heartbeat must not share the fate of the last one.
"""

_HOLDS_UP: Final = frozenset({"ASKING", "WAIT"})
"""Commands that need a connection of their own, with whatever stands beside them: one is about the
command behind it, the other holds all of them up."""

_LOOKS: Final = 2
"""How often a connection is looked at in the time after which it is doubted."""


class SharingRedis(Redis):
    """A client for commands, any number of them at once. Nothing connects before the first one.

    A command without an answer within `timeout_s` fails, and so do all commands of a connection
    that is lost. As ever, the server may have followed them.
    """

    def __init__(self, pool: BlockingConnectionPool, *, timeout_s: float) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self._pool = pool
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._lines: set[_Line] = set()

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        """Send one command and await its answer.

        Raises:
            RedisError: No connection, no answer in time, or an error that the server answered.
            OSError: No connection.
        """
        answer = await self._ask(words)
        if isinstance(answer, Exception):
            raise answer
        callback = self.response_callbacks.get(words[0])
        if callback is None:
            return answer
        options.pop("keys", None)  # meant for redis-py's cache
        parsed = callback(answer, **options)
        return await parsed if isawaitable(parsed) else parsed

    def pipeline(
        self,
        transaction: bool = True,  # noqa: FBT001, FBT002 - redis-py's
        shard_hint: str | None = None,
    ) -> Pipeline:
        """Commands to be sent together. Without a transaction they share the connection, too."""
        if transaction:
            return super().pipeline(transaction, shard_hint)
        return _SharingPipeline(self)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's
        """Close all connections; commands under way fail."""
        self._line = None
        for line in list(self._lines):
            await line.aclose()
        await super().aclose(close_connection_pool)

    async def _ask(self, words: tuple[Any, ...]) -> Any:
        """An answer, which may be an error of the server."""
        line = self._line
        if line is None or line.is_ended or line.is_doubted:
            line = self._open()
        return await line.ask(words)

    def _open(self) -> "_Line":
        """Another connection, for whatever comes from here on."""
        if self._line is not None:
            self._line.retire()
        line = self._line = _Line(self._pool, self._timeout_s, self._lines.discard)
        self._lines.add(line)
        return line


class _SharingPipeline(Pipeline):
    """Collects commands as redis-py's pipeline does, and sends them in one turn of the loop."""

    def __init__(self, client: SharingRedis) -> None:
        super().__init__(
            client.connection_pool, client.response_callbacks, transaction=False, shard_hint=None
        )
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002
        if any(words[0] in _HOLDS_UP for words, _ in self.command_stack):
            return await super().execute(raise_on_error)
        commands, self.command_stack = self.command_stack, []
        answers = await asyncio.gather(
            *(self._client.execute_command(*words, **options) for words, options in commands),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, BaseException) and (
                raise_on_error or not isinstance(answer, ResponseError)
            ):
                raise answer
        return answers


class _Line:
    """One connection: commands go out as they come, answers come back in their order.

    A task of its own opens it and reads: neither may be cut short when one of many callers is
    cancelled.
    """

    def __init__(
        self,
        pool: BlockingConnectionPool,
        timeout_s: float,
        on_end: Callable[["_Line"], None],
    ) -> None:
        self._pool = pool
        self._timeout_s = timeout_s
        self._doubt_s = min(DOUBT_S, timeout_s / 4)
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._connection: AbstractConnection | None = None
        self._opened = asyncio.Event()
        self._unanswered: deque[tuple[float, asyncio.Future[Any]]] = deque()
        """When each command was sent, and who waits for its answer."""
        self._outgoing: list[bytes] = []
        self._looked_at = self._began_at = self._loop.time()
        self._error: Exception | None = None
        self._is_retired = False
        self.is_doubted = False
        """Whether nothing has come over it for too long, while something should have."""
        self._task = self._loop.create_task(self._serve(), name="redis connection")
        self._next_look: asyncio.TimerHandle | None = self._look_later()

    @property
    def is_ended(self) -> bool:
        """Whether nothing can be asked over it any more."""
        return self._error is not None

    async def ask(self, words: tuple[Any, ...]) -> Any:
        """Send a command and await its answer, which may be an error of the server.

        Raises:
            RedisError: The connection could not be opened or is lost, or no answer came in time.
            OSError: It could not be opened.
        """
        if self._connection is None:
            await self._opened.wait()
        if self._error is not None or self._connection is None:
            raise (
                self._error or RedisConnectionError("The connection was closed.")
            ).with_traceback(
                None  # or those of all who wait for it would grow together
            )
        packed = _packed(self._connection, words)
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._unanswered.append((self._loop.time(), answer))
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing += packed
        if self._next_look is None:
            self._next_look = self._look_later()
        return await answer

    def retire(self) -> None:
        """Nothing more will be asked; the connection is closed when all has been answered."""
        self._is_retired = True
        self._end_if_done()

    async def aclose(self) -> None:
        """Close the connection; what is unanswered fails."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _serve(self) -> None:
        error: BaseException = RedisConnectionError("The connection was closed.")
        try:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                self._connection = connection
                self._opened.set()
                await self._read(connection)
            finally:
                await connection.disconnect(nowait=True)
                await self._pool.release(connection)
        except Exception as failure:  # noqa: BLE001 - whatever it is, those who wait are told
            error = failure
        finally:
            self._end(error)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            answer: Any
            try:
                answer = await connection.read_response(timeout=math.inf)
            except ResponseError as error:
                answer = error
            if not self._unanswered:
                raise RedisConnectionError("Redis answered what nobody had asked.")
            _, waiting = self._unanswered.popleft()
            if not waiting.done():
                waiting.set_result(answer)
            self.is_doubted = False
            if self._is_retired:
                self._end_if_done()

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        # redis-py's own way to send closes the connection when whoever sends is cancelled.
        writer = getattr(self._connection, "_writer", None)
        if writer is not None:
            writer.write(b"".join(outgoing))

    def _look(self) -> None:
        """Doubt a connection that is silent, and fail what was not answered in time.

        In time by the last look as well: after a process stood still, answers have arrived that
        nobody had a chance to read.
        """
        now, before = self._loop.time(), self._looked_at
        self._next_look, self._looked_at = None, now
        since = self._unanswered[0][0] if self._unanswered else self._began_at
        if self._connection is None or self._unanswered:
            self.is_doubted = now - since > self._doubt_s
            self._next_look = self._look_later()
        for sent_at, answer in self._unanswered:
            if before - sent_at < self._timeout_s:
                break
            if not answer.done():
                answer.set_exception(RedisTimeoutError(f"no answer within {self._timeout_s:g} s"))
        self._end_if_done()

    def _look_later(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._doubt_s / _LOOKS, self._look)

    def _end_if_done(self) -> None:
        """End a retired connection that nobody waits for."""
        is_opening = self._connection is None and self._error is None
        if self._is_retired and not is_opening and all(each.done() for _, each in self._unanswered):
            self._task.cancel()

    def _end(self, error: BaseException) -> None:
        self._error = error if isinstance(error, Exception) else RedisConnectionError(str(error))
        self._opened.set()
        if self._next_look is not None:
            self._next_look.cancel()
        for _, answer in self._unanswered:
            if not answer.done():
                answer.set_exception(_again(self._error))
        self._on_end(self)


def _packed(connection: AbstractConnection, words: tuple[Any, ...]) -> list[bytes]:
    """A command as it is sent."""
    if " " not in words[0]:
        try:
            return [hiredis.pack_command(words)]
        except (TypeError, UnicodeEncodeError):
            pass  # what redis-py knows to encode: bytes that are no text, bool
    packed: list[bytes] = connection.pack_command(*words)
    return packed


def _again(error: Exception) -> Exception:
    """An error of its own for each who waits, since each adds to its traceback."""
    return RedisConnectionError(f"{type(error).__name__}: {error}")
