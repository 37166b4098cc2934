"""Threads for sync tools."""

import asyncio
import threading
from concurrent.futures import wait

import pytest

from agent_worker.engine.pydantic_ai.threads import ToolThreads
from shared.testing.waiting import eventually


def test_a_call_has_its_result_or_its_exception() -> None:
    """As with every executor."""
    threads = ToolThreads()

    assert threads.submit(divmod, 7, 2).result(5) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(5)


def test_calls_do_not_wait_for_each_other() -> None:
    """There are as many threads as calls."""
    barrier = threading.Barrier(100)
    threads = ToolThreads()

    done, waiting = wait([threads.submit(barrier.wait, 10) for _ in range(100)], timeout=20)

    assert (len(done), len(waiting)) == (100, 0)


async def test_an_idle_thread_is_used_again() -> None:
    """Starting one costs more than most tools take."""
    threads = ToolThreads()
    first = threads.submit(threading.get_ident).result(5)

    async def is_idle() -> bool:
        return bool(threads._idle)

    await eventually(is_idle)

    assert threads.submit(threading.get_ident).result(5) == first


def test_a_hanging_call_does_not_keep_the_process_alive() -> None:
    """Threads are daemons: a worker that has to exit does."""
    assert ToolThreads().submit(lambda: threading.current_thread().daemon).result(5)


async def test_a_given_up_call_is_forgotten() -> None:
    """Whoever waits is free at once, and the late result goes nowhere."""
    released = threading.Event()
    threads = ToolThreads()
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(loop.run_in_executor(threads, released.wait, 10))
    await asyncio.sleep(0)

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    released.set()

    async def has_ended() -> bool:
        return bool(threads._idle)

    assert await eventually(has_ended)
