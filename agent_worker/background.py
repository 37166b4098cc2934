"""Background tasks: named, watched, and the end of the worker if one of them breaks."""

import asyncio
import contextvars
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog

from shared.errors import AgentsError

JITTER: Final = 0.25
"""By what part of itself a pause is stretched or shortened at most."""
CANCEL_AGAIN_S: Final = 0.1
"""How long a cancelled task has to end before it is cancelled again."""

log = structlog.get_logger()


class Background:
    """The tasks that a worker always has.

    An exception in one of them is a defect: `wait_failed` answers with the first one, and whoever
    awaits it brings the worker down.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed = asyncio.Event()
        self._failure: BaseException | None = None

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which does not end by itself, until `aclose`."""
        # In a context of its own, or it would log under the ids of whoever happened to start it.
        task = asyncio.create_task(work, name=name, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._on_end)

    async def wait_failed(self) -> BaseException:
        """Wait until a task has died, and return why."""
        while self._failure is None:
            await self._failed.wait()
        return self._failure

    async def aclose(self) -> None:
        """Cancel all tasks and wait for their end."""
        tasks = set(self._tasks)
        while tasks:
            for task in tasks:
                task.cancel()
            # Again, for those that are still there: one that comes while redis-py connects may be
            # swallowed there, and the task would go on for ever.
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception() or RuntimeError(f"The task {task.get_name()} ended by itself.")
        log.critical("background.died", task=task.get_name(), exc_info=error)
        self._failure = self._failure or error
        self._failed.set()


async def repeat(step: Callable[[], Awaitable[None]], pause_s: float, *, event: str) -> None:
    """Do `step`, pause, and again for ever.

    Known errors, such as a store that is away, are logged as `event`, and the next try comes after
    the pause. Any other exception ends it.
    """
    while True:
        try:
            await step()
        except AgentsError as error:
            log.warning(event, error=type(error).__name__, reason=str(error))
        await asyncio.sleep(pause_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  no secret
