"""Blocking work, such as with files, off the event loop: threads that any number of loops share."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from shared.errors import StoreUnavailableError

P = ParamSpec("P")
Value = TypeVar("Value")


class BlockingWork:
    """A few threads of one purpose, started when they are needed.

    Not the default ones of an event loop: whoever fills those (a tool, a look-up of names) would
    hold up every write of a history, and the other way round. For any number of threads and loops,
    and for a process that forks: the child has threads of its own.
    """

    def __init__(self, name: str, *, threads: int) -> None:
        self._name = name
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._pid = 0
        self._lock = threading.Lock()
        self._is_closed = False

    async def run(self, work: Callable[P, Value], *args: P.args, **kwargs: P.kwargs) -> Value:
        """Do `work` in a thread, and return what it returns.

        Who is cancelled meanwhile leaves at once. What had begun then goes on to its end, as a
        request does that a server has received; what had not is never done.

        Raises:
            StoreUnavailableError: This was closed.
        """
        with self._lock:
            future = self._opened().submit(work, *args, **kwargs)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Begin nothing more, and wait for the end of what was asked for. Repeating is harmless."""
        with self._lock:
            self._is_closed = True
            executor, self._executor = self._executor, None
        if executor is not None and self._pid == os.getpid():
            executor.shutdown(wait=True)

    def _opened(self) -> ThreadPoolExecutor:
        if self._is_closed:
            raise StoreUnavailableError("This store was closed; open a new one.")
        if self._executor is None or self._pid != os.getpid():
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix=self._name)
            self._pid = os.getpid()
        return self._executor
