"""Local mode's doorbell: rings the runtime in this process, without Celery."""

import asyncio
import contextvars
from collections.abc import Mapping, Sequence

import structlog

from agent_worker.definition import AgentDefinition
from agent_worker.runtime import Runtime
from shared.backend import Backend
from shared.ledger.protocol import WakeUp
from shared.settings import Settings

log = structlog.get_logger()


class LocalDispatcher:
    """Wakes one runtime, in tasks of its event loop. A ring never waits and never fails.

    Runs that the runtime has no room for wait in `Runtime.wake`, first come, first served.
    """

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime = runtime
        self._waking: set[asyncio.Task[bool]] = set()

    @property
    def is_distributed(self) -> bool:
        return False

    def connect(self, runtime: Runtime) -> None:
        """Ring `runtime` from now on.

        A runtime needs a dispatcher to be built, and this one a runtime to ring: one of the two
        has to come second.
        """
        self._runtime = runtime

    async def ring(self, wake_ups: Sequence[WakeUp]) -> None:
        if self._runtime is None:
            return  # nobody to ring yet; the first sweep of the runtime finds the run
        for wake_up in wake_ups:
            # In a context of its own: the caller may be a run, or somebody's request.
            task = asyncio.create_task(
                self._runtime.wake(wake_up.run_id),
                name=f"wake:{wake_up.run_id}",
                context=contextvars.Context(),
            )
            self._waking.add(task)
            task.add_done_callback(self._on_end)

    async def aclose(self) -> None:
        """Forget the rings that have not led to a run yet."""
        for task in self._waking:
            task.cancel()
        if self._waking:
            await asyncio.wait(set(self._waking))

    def _on_end(self, task: asyncio.Task[bool]) -> None:
        self._waking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("wake.broken", task=task.get_name(), exc_info=error)


def build_local_runtime(
    settings: Settings, backend: Backend, agents: Mapping[str, AgentDefinition]
) -> tuple[Runtime, LocalDispatcher]:
    """A runtime and the dispatcher that rings it, made for each other."""
    dispatcher = LocalDispatcher()
    runtime = Runtime(settings, backend, dispatcher, agents)
    dispatcher.connect(runtime)
    return runtime, dispatcher
