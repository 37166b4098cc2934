"""Slots of a worker."""

import asyncio

from agent_worker.capacity import Capacity


async def test_slots_go_to_whoever_waits_longest() -> None:
    """First come, first served."""
    capacity = Capacity(1)
    assert await capacity.acquire()
    order: list[str] = []

    async def take(name: str) -> None:
        assert await capacity.acquire()
        order.append(name)
        capacity.release()

    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(take(name))
        await asyncio.sleep(0)  # all three stand in line
        capacity.release()
    assert order == ["a", "b", "c"]
    assert capacity.free == 1


async def test_who_gives_up_waiting_takes_no_slot_along() -> None:
    """A cancelled waiter, even one whose turn had just come, leaves the slot to the next."""
    capacity = Capacity(1)
    assert await capacity.acquire()
    first = asyncio.create_task(capacity.acquire())
    second = asyncio.create_task(capacity.acquire())
    await asyncio.sleep(0)  # both stand in line
    capacity.release()
    first.cancel()
    assert await second
    assert first.cancelled()
    capacity.release()
    assert capacity.free == 1


async def test_nothing_is_given_out_after_closing() -> None:
    """Waiters are told, and so is everybody who comes later."""
    capacity = Capacity(1)
    assert await capacity.acquire()
    waiting = asyncio.create_task(capacity.acquire())
    await asyncio.sleep(0)  # it stands in line
    capacity.close()
    assert not await waiting
    capacity.release()
    assert not capacity.try_acquire()
    assert not await capacity.acquire()
