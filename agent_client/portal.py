"""The portal: from threads into one event loop in the background."""

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal

from shared.errors import RequestError

P = ParamSpec("P")
Value = TypeVar("Value")
Item = TypeVar("Item")

_CLOSED: Final = "This client is closed; build a new one."
_FORKED: Final = (
    "This client was used before its process forked, and threads do not survive that. Build the "
    "client after the fork."
)


class Portal:
    """An event loop in a thread of its own, started with the first call. For any number of threads.

    Whoever is interrupted while waiting (Ctrl-C) leaves at once, and what it waited for is
    cancelled. A program that forgot to `close` still ends.
    """

    def __init__(self) -> None:
        self._loop = _LoopThread()
        # At the latest when the interpreter ends, while the thread can still be talked to: an
        # iterator that is half done would otherwise wait for it for ever.
        weakref.finalize(self, self._loop.abandon)

    def call(
        self,
        function: Callable[P, Coroutine[Any, Any, Value]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Value:
        """Await `function(...)` in the loop, and return what it returns.

        Raises:
            RequestError: The portal is closed, or was closed meanwhile.
        """
        future = self._loop.start_task(partial(function, *args, **kwargs))
        try:
            return future.result()
        except CancelledError as error:
            raise RequestError(_CLOSED) from error
        finally:
            # Only does something when Ctrl-C got this thread out of its wait.
            future.cancel()

    async def run(self, function: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """Await `function()` in the portal's loop, from a coroutine in any other.

        Who is cancelled while waiting leaves when it has come to its end.

        Raises:
            RequestError: The portal is closed, or was closed meanwhile.
        """
        waiting = asyncio.wrap_future(self._loop.start_task(function))
        outcome = await settled(waiting)
        if outcome.cancelled():
            raise RequestError(_CLOSED)
        return outcome.result()

    def iterate(self, source: AsyncGenerator[Item, None]) -> Generator[Item, None, None]:
        """Iterate over `source` in the loop; however the iteration ends, `source` is closed."""
        steps = _Steps(source)
        try:
            while (item := self.call(steps.next)) is not None:
                yield item
        finally:
            if not self._loop.is_closed:
                self.call(steps.aclose)

    def close(self, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `farewell()` in the loop, cancel what still goes on there, and end the thread."""
        self._loop.stop(farewell)


async def settled(future: asyncio.Future[Value]) -> asyncio.Future[Value]:
    """Wait until `future` is done, though the caller is cancelled meanwhile; then it is told so."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not future.cancelled():
            future.exception()  # seen, since nobody else will look
        raise cancelled
    return future


class _LoopThread:
    """The thread and its loop. Apart from the portal, so that they end when nobody holds that.

    It is a daemon, since the interpreter waits for other threads before it says that it ends.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._lock = threading.Lock()
        self._portal: BlockingPortal | None = None
        self._thread: threading.Thread | None = None

    def start_task(self, work: Callable[[], Coroutine[Any, Any, Value]]) -> Future[Value]:
        """Start `work` in the loop, which is started if there is none yet."""
        portal = self._opened()
        try:
            return portal.start_task_soon(_cancelled_once, work)
        except RuntimeError as error:
            if self.is_closed:  # by another thread, a moment ago
                raise RequestError(_CLOSED) from error
            raise  # called from within the loop, where waiting would be for ever

    def stop(self, farewell: Callable[[], Coroutine[Any, Any, None]]) -> None:
        portal, thread = self._taken_out()
        if portal is None or thread is None:
            return
        try:
            portal.start_task_soon(_cancelled_once, farewell).result()
        finally:
            _stop(portal).result()
            thread.join()

    def abandon(self) -> None:
        """Stop without waiting; nobody is left to see it."""
        portal, _ = self._taken_out()
        if portal is not None:
            with suppress(RuntimeError):  # garbage is sometimes collected within the loop itself
                _stop(portal)

    def _opened(self) -> BlockingPortal:
        with self._lock:
            if self.is_closed:
                raise RequestError(_CLOSED)
            if self._thread is not None and not self._thread.is_alive():
                raise RequestError(_FORKED)
            if self._portal is None:
                opened: Future[BlockingPortal] = Future()
                self._thread = threading.Thread(
                    target=_run_loop, args=(opened,), name="agent-client", daemon=True
                )
                self._thread.start()
                self._portal = opened.result()
            return self._portal

    def _taken_out(self) -> tuple[BlockingPortal | None, threading.Thread | None]:
        with self._lock:
            self.is_closed = True
            portal, thread = self._portal, self._thread
            self._portal = self._thread = None
            return portal, thread


class _Steps(Generic[Item]):
    """An async iterator, one step at a time.

    A step that was interrupted may still be tidying up; `aclose` waits for it, since a generator
    cannot be closed while it runs.
    """

    def __init__(self, source: AsyncGenerator[Item, None]) -> None:
        self._source = source
        self._lock = asyncio.Lock()

    async def next(self) -> Item | None:
        """The next item; None at the end."""
        async with self._lock:
            return await anext(self._source, None)

    async def aclose(self) -> None:
        """End the iterator."""
        async with self._lock:
            await self._source.aclose()


def _run_loop(opened: Future[BlockingPortal]) -> None:
    try:
        asyncio.run(_serve(opened))
    except BaseException as error:
        if opened.done():
            raise
        opened.set_exception(error)  # or the thread that waits for the loop would wait for ever


async def _serve(opened: Future[BlockingPortal]) -> None:
    async with BlockingPortal() as portal:
        opened.set_result(portal)
        await portal.sleep_until_stopped()


def _stop(portal: BlockingPortal) -> Future[None]:
    return portal.start_task_soon(partial(portal.stop, cancel_remaining=True))


async def _cancelled_once(work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
    """Await `work` in a task of asyncio, which is cancelled once.

    A cancel scope of anyio would cancel it again at each await, and so also what it does to leave
    cleanly, such as to end a subscription.
    """
    task = asyncio.create_task(work())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise
