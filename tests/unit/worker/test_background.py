"""Background tasks: cancelled until they end."""

import asyncio

from agent_worker.background import Background


async def test_a_task_that_swallows_its_cancellation_ends_all_the_same() -> None:
    """Libraries do that; the worker would never stop."""
    swallowed = 0
    has_begun = asyncio.Event()

    async def work() -> None:
        nonlocal swallowed
        while True:
            has_begun.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 2:
                    raise

    background = Background()
    background.start("stubborn", work())
    await has_begun.wait()
    async with asyncio.timeout(10):
        await background.aclose()
    assert swallowed == 3
