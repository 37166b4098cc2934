"""A network that can be cut: a TCP proxy of this process, in front of any server."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Protocol, Self

HOST: Final = "127.0.0.1"
CHUNK: Final = 65_536
START_S: Final = 10.0


class Ear(Protocol):
    """Hears what passes, before it is passed on. `link` is the number of a client's connection."""

    def hear_request(self, link: int, data: bytes) -> None:
        """A piece of what the client sent."""
        ...

    def hear_answer(self, link: int, data: bytes) -> None:
        """A piece of what the server sent."""
        ...


class Proxy:
    """Passes bytes between clients and one server, until it is told to do worse.

    It runs in a thread of its own, so a test on an event loop may block and the network goes on.
    All methods may be called from any thread. Whatever was done, `restore` makes new connections
    pass again; those that lost bytes are closed, since nothing could make them whole. `ear` is
    called in that thread.
    """

    def __init__(self, port: int, host: str = HOST, *, ear: Ear | None = None) -> None:
        self._server = (host, port)
        self._ear = ear
        self._accepted = 0
        self._links: set[_Link] = set()
        self._is_cut = False
        self._swallows_requests = False
        self._swallows_answers = False
        self._pattern: bytes | None = None
        self._loop = asyncio.new_event_loop()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self.port = 0
        self.swallowed = 0
        """How many pieces of answers were thrown away."""

    @property
    def address(self) -> str:
        """Host and port, as in a URL."""
        return f"{HOST}:{self.port}"

    def start(self) -> Self:
        """Listen on a free port."""
        self._thread.start()
        assert self._is_listening.wait(START_S), "the proxy does not listen"
        return self

    def stop(self) -> None:
        """Close everything."""
        with suppress(RuntimeError):  # it is stopped already
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)

    def cut(self) -> None:
        """Reset all connections, and each new one."""
        self._is_cut = True
        self._on_loop(self._reset_all)

    def black_hole(self) -> None:
        """Let bytes vanish in both directions, as behind a firewall that drops them."""
        self._swallows_requests = self._swallows_answers = True

    def swallow_answers(self) -> None:
        """Let requests reach the server, and no answer come back."""
        self._swallows_answers = True

    def swallow_answer_to(self, pattern: bytes) -> None:
        """Let the next request that holds `pattern` pass, and its connection carry no answer."""
        self.swallowed = 0
        self._pattern = pattern

    @property
    def has_swallowed(self) -> bool:
        """Whether the request that `swallow_answer_to` waits for has come."""
        return self._pattern is None

    def restore(self) -> None:
        """Be a good network again."""
        self._is_cut = self._swallows_requests = self._swallows_answers = False
        self._pattern = None
        self._on_loop(self._reset_damaged)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        self._listener.close()
        self._is_cut = True
        self._reset_all()
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)
        for _ in range(5):
            await asyncio.sleep(0)  # sockets are closed in the next rounds

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        self._is_listening.set()

    def _on_loop(self, callback: Callable[[], None]) -> None:
        done = threading.Event()

        def call() -> None:
            callback()
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(START_S), "the proxy hangs"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection(*self._server)
        except OSError:
            writer.transport.abort()
            return
        self._accepted += 1
        link = _Link(self._accepted, writer, to_server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump_requests(link, reader))
                pumps.create_task(self._pump_answers(link, from_server))
        except* (OSError, _EndedError):
            pass
        finally:
            self._links.discard(link)
            link.reset()

    async def _pump_requests(self, link: "_Link", reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            if self._ear is not None:
                self._ear.hear_request(link.number, data)
            if self._pattern is not None and self._pattern in data:
                self._pattern = None
                link.is_deaf = True
            if self._swallows_requests:
                link.is_damaged = True
                continue
            link.to_server.write(data)
            await link.to_server.drain()
        raise _EndedError

    async def _pump_answers(self, link: "_Link", reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            if self._ear is not None:
                self._ear.hear_answer(link.number, data)
            if self._swallows_answers or link.is_deaf:
                link.is_damaged = True
                self.swallowed += 1
                continue
            link.to_client.write(data)
            await link.to_client.drain()
        raise _EndedError

    def _reset_all(self) -> None:
        for link in self._links:
            link.reset()

    def _reset_damaged(self) -> None:
        for link in self._links:
            if link.is_damaged:
                link.reset()


class _EndedError(Exception):
    """One side has closed; the other one is closed with it."""


class _Link:
    """A client's connection and the one that was opened for it."""

    def __init__(
        self, number: int, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.to_client = to_client
        self.to_server = to_server
        self.is_deaf = False
        self.is_damaged = False

    def reset(self) -> None:
        for writer in (self.to_client, self.to_server):
            transport: Any = writer.transport
            transport.abort()
