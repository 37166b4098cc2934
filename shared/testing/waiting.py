"""Waiting for a condition: a bare sleep is too short on one machine and too long on another."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Value = TypeVar("Value")


async def eventually(probe: Callable[[], Awaitable[Value]], *, timeout_s: float = 10.0) -> Value:
    """Await `probe()` again and again until its answer is truthy, and return that answer.

    Raises:
        AssertionError: It was not within `timeout_s`; the message shows the last answer.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := await probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s; the last answer was {answer!r}")
        await asyncio.sleep(0.01)
    return answer
