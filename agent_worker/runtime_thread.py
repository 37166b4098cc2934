"""The runtime thread: a runtime on a loop of its own, where the main thread is Celery's."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Final

import structlog

from agent_worker.definition import AgentDefinition
from agent_worker.loop_watch import LoopWatch
from agent_worker.runtime import DROP_S, RETIRE_S, STOP_MARGIN_S, Runtime
from shared.backend import Backend
from shared.dispatch.protocol import Dispatcher
from shared.errors import ConfigurationError
from shared.settings import Settings

CLOSE_S: Final = 1.0
"""How long connections may take to be closed."""
LIVENESS_CHECK_S: Final = 1.0
"""How often somebody who waits for the loop makes sure that it still exists."""
BLOCKED_PART: Final = 0.25
"""A loop that stood still for this part of a lease is worth a warning."""

log = structlog.get_logger()


class RuntimeThread:
    """Starts, rings and stops a runtime from other threads.

    `on_end` is called from the runtime's thread when it has ended, for whatever reason. If it was a
    defect, `failure` holds it.
    """

    def __init__(
        self,
        settings: Settings,
        agents: Mapping[str, AgentDefinition],
        *,
        open_backend: Callable[[Settings], Backend],
        open_dispatcher: Callable[[Settings], Dispatcher],
        on_end: Callable[[], None],
        worker_id: str,
    ) -> None:
        self.failure: BaseException | None = None
        self._settings = settings
        self._agents = agents
        self._open_backend = open_backend
        self._open_dispatcher = open_dispatcher
        self._on_end = on_end
        self._worker_id = worker_id
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runtime: Runtime | None = None
        self._shall_stop = asyncio.Event()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="agent-runtime", daemon=True)

    def start(self) -> None:
        """Start the thread and wait until the worker is announced (or shall end, or has ended)."""
        self._thread.start()
        while not self._started.wait(LIVENESS_CHECK_S) and not self._is_ending:
            pass

    def wake(self, run_id: str) -> bool:
        """`Runtime.wake`, for other threads. Returns False when the runtime is gone."""
        if self._runtime is None or self._loop is None:
            return False
        waking = self._runtime.wake(run_id)
        try:
            future = asyncio.run_coroutine_threadsafe(waking, self._loop)
        except RuntimeError:  # the loop is closed
            waking.close()
            return False
        while True:
            try:
                return future.result(LIVENESS_CHECK_S)
            except concurrent.futures.CancelledError:
                return False
            except TimeoutError:
                if future.done():  # just now, or it is what the runtime raised
                    return future.result()
            if not self._thread.is_alive():
                return False

    def stop_taking(self) -> None:
        """`Runtime.stop_taking`, soon. Safe to call from a signal handler."""
        if self._runtime is not None:
            self.call_soon(self._runtime.stop_taking)

    def hand_over(self, delay_s: float = 0.0) -> None:
        """Hand all runs over and end the thread. Safe to call from a signal handler, and again."""
        self._is_ending = True  # not `_started`: a signal may come in the middle of its `wait`
        loop = self._loop
        if loop is None:
            self._shall_stop.set()  # nobody waits for it yet
        else:
            self.call_soon(lambda: loop.call_later(delay_s, self._shall_stop.set))

    def hurry(self) -> None:
        """`Runtime.hurry`, soon. Safe to call from a signal handler."""
        if self._runtime is not None:
            self.call_soon(self._runtime.hurry)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the runtime's loop, if there still is one."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(callback)

    def join(self) -> None:
        """Wait for the thread's end, as long as its promises allow it to take."""
        if self._thread.ident is not None:
            self._thread.join(
                self._settings.handover_grace_s + STOP_MARGIN_S + DROP_S + RETIRE_S + CLOSE_S
            )

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                loop = runner.get_loop()
                _run_to_its_end(loop, loop.create_task(self._main(), name="runtime"))
        except BaseException as error:
            self.failure = error
            if isinstance(error, ConfigurationError):  # its message is all that one needs
                log.critical("runtime.died", worker_id=self._worker_id, reason=str(error))
            else:
                log.critical("runtime.died", worker_id=self._worker_id, exc_info=error)
        finally:
            self._started.set()
            self._on_end()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as connections:
            backend = self._open_backend(self._settings)
            connections.push_async_callback(_closed, backend)
            dispatcher = self._open_dispatcher(self._settings)
            connections.push_async_callback(_closed, dispatcher)
            self._runtime = Runtime(
                self._settings, backend, dispatcher, self._agents, self._worker_id
            )
            with LoopWatch(self._loop, limit_s=self._settings.lease_s * BLOCKED_PART):
                await self._serve(self._runtime)

    async def _serve(self, runtime: Runtime) -> None:
        stop = asyncio.create_task(self._shall_stop.wait(), name="stop")
        start = asyncio.create_task(runtime.start(), name="start")
        await asyncio.wait({stop, start}, return_when=asyncio.FIRST_COMPLETED)
        if not start.done():
            start.cancel()
            return
        start.result()
        self._started.set()
        failure = asyncio.create_task(runtime.wait_failed(), name="failure")
        await asyncio.wait({stop, failure}, return_when=asyncio.FIRST_COMPLETED)
        await runtime.shutdown(self._settings.handover_grace_s)
        if failure.done():
            raise failure.result()


def _run_to_its_end(loop: asyncio.AbstractEventLoop, main: asyncio.Task[None]) -> None:
    """Run a loop until its main task has ended, whatever its other tasks raise.

    A loop stops when one of its tasks raises SystemExit or KeyboardInterrupt. Here, that is code of
    an agent, which must not take all other runs down; whoever awaits that task hears of it.
    """
    while True:
        try:
            return loop.run_until_complete(main)
        except (SystemExit, KeyboardInterrupt) as error:
            if main.done():
                raise
            log.error("task.exited", error=type(error).__name__)


async def _closed(connection: Backend | Dispatcher) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await connection.aclose()
    except Exception:  # the process ends, and the system closes what this could not
        log.exception("close.failed")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Loops of uvloop where it is installed, else those of the standard library."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
