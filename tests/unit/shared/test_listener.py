"""One watcher of one topic: hints that come before, while and after it waits."""

import asyncio

import pytest

from shared.errors import StoreUnavailableError
from shared.notification.bell import Bell
from shared.notification.listener import RECONNECTED, Listener

SHORT_S = 0.05


async def elapsed_s(listener: Listener, *, answers: bool) -> float:
    """How long one wait takes, whose answer this is."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await listener.wait(SHORT_S) is answers
    return loop.time() - began


async def test_a_hint_that_came_before_is_heard_once() -> None:
    """The next wait takes its time again: it is not woken by what was told already."""
    listener = Listener()
    listener.hear("x")
    assert await elapsed_s(listener, answers=True) < SHORT_S
    assert await elapsed_s(listener, answers=False) >= SHORT_S * 0.9


async def test_a_hint_wakes_who_waits() -> None:
    listener = Listener()
    asyncio.get_running_loop().call_soon(listener.hear, "x")
    async with asyncio.timeout(5):
        assert await listener.wait(60)
    assert not listener.poll()


async def test_a_shared_bell_tells_that_one_of_them_rang() -> None:
    """Which one, each of them says."""
    bell = Bell()
    first, second = Listener(bell=bell), Listener(bell=bell)
    asyncio.get_running_loop().call_soon(second.hear, "x")
    async with asyncio.timeout(5):
        await bell.wait(60)
    assert (first.poll(), second.poll()) == (False, True)


async def test_who_waits_when_it_is_closed_is_told() -> None:
    listener = Listener()
    asyncio.get_running_loop().call_soon(listener.close)
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailableError):
            await listener.wait(60)
    with pytest.raises(StoreUnavailableError):
        listener.poll()


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    listener = Listener()
    waiting = asyncio.create_task(listener.wait(60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    listener.hear("x")
    assert await listener.wait(1)


async def test_payloads_are_taken_once_and_in_order() -> None:
    """From the first call on: for who never asks, none are kept."""
    listener = Listener()
    listener.hear("a")
    assert listener.take() is None
    for payload in ("b", "c"):
        listener.hear(payload)
    assert listener.poll()
    assert listener.take() == ("b", "c")
    assert listener.take() == ()


async def test_where_payloads_are_missing_none_is_told() -> None:
    """After a lost connection, or where nobody has taken them for long. Then it begins anew."""
    listener = Listener()
    listener.take()
    for payloads in (["a", RECONNECTED, "b"], ["x"] * 1000):
        for payload in payloads:
            listener.hear(payload)
        assert listener.take() is None
        listener.hear("c")
        assert listener.take() == ("c",)
