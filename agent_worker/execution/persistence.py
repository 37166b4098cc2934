"""Writing against the odds: a store that does not answer, a cancellation at the wrong moment."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import stamina

from shared.errors import StoreUnavailableError

STORE_PATIENCE_S: Final = 60.0
"""How long a store may be away before a run is left to whoever finds it once the store is back."""

Value = TypeVar("Value")


async def insist(operation: Callable[[], Awaitable[Value]]) -> Value:
    """Try again with growing pauses while the store is away. Only for operations safe to repeat.

    Raises:
        StoreUnavailableError: It was away for `STORE_PATIENCE_S`.
    """
    try:
        return await operation()  # as it nearly always does; to set up what follows takes longer
    except StoreUnavailableError:
        pass
    attempts = stamina.retry_context(
        on=StoreUnavailableError,
        attempts=None,
        timeout=STORE_PATIENCE_S,
        wait_initial=0.1,
        wait_max=2.0,
        wait_jitter=0.5,  # or all runs of a worker would come back in one burst
    )
    async for attempt in attempts:
        with attempt:
            return await operation()
    raise AssertionError("stamina ends with a result or an error")


async def uninterrupted(work: Coroutine[Any, Any, Value], *, patience_s: float, name: str) -> Value:
    """Await `work`; who cancels the caller meanwhile waits up to `patience_s` for its end.

    Without this, a cancellation in the middle of the last write would lose a run's status. `work`
    is cancelled only when the patience has run out.
    """
    task = asyncio.create_task(work, name=name)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=patience_s)
        raise
    finally:
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # seen here, or asyncio would report it as never retrieved
