"""Threads for sync tools.

Pydantic AI's own choice, anyio's threads, has 40 of them for a whole process and waits for each
to end. One tool that hangs would hold a place for ever, forty would stop every run, and a worker
could not exit. So here are as many threads as there are calls, nobody waits for one that was given
up, and none keeps the process alive.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import cache
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, ParamSpec, TypeVar

from agent_worker.saying import named

IDLE_S: Final = 10.0
"""How long a thread without work is kept for the next call."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class EscapedError(Exception):
    """A function raised what is no `Exception`, such as SystemExit.

    Raised in a task, that would stop the loop with all other runs on it. `escaped` holds it.
    """

    def __init__(self, escaped: BaseException) -> None:
        super().__init__(named(escaped))
        self.escaped = escaped


class ToolThreads(Executor):
    """Runs each call at once, in an idle thread or a new one. Threads are daemons."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[SimpleQueue[Callable[[], None]]] = []

    def submit(
        self,
        fn: Callable[Arguments, Result],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Result]:
        future: Future[Result] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except StopIteration as error:
                # A future refuses it, and whoever waits would wait for ever.
                future.set_exception(RuntimeError(f"The function raised {error!r}."))
            except Exception as error:  # noqa: BLE001  it is raised where the future is awaited
                future.set_exception(error)
            except BaseException as error:  # noqa: BLE001
                future.set_exception(EscapedError(error))

        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put(work)
        else:
            Thread(target=self._serve, args=(work,), name="agent-tool", daemon=True).start()
        return future

    def _serve(self, work: Callable[[], None]) -> None:
        inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        while True:
            work()
            del work  # a result must not live until the next call comes
            with self._lock:
                self._idle.append(inbox)
            try:
                work = inbox.get(timeout=IDLE_S)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        return
                work = inbox.get()  # chosen in the last moment


@cache
def tool_threads() -> ToolThreads:
    """The threads of this process."""
    return ToolThreads()
