"""Blocking work in threads: what becomes of it when somebody leaves."""

import asyncio
import threading

import pytest

from shared.blocking_work import BlockingWork
from shared.errors import StoreUnavailableError


async def test_what_has_begun_ends_and_what_has_not_never_begins() -> None:
    """Whoever is cancelled leaves at once, in both cases."""
    work = BlockingWork("test", threads=1)
    has_begun, may_end = threading.Event(), threading.Event()
    done: list[str] = []

    def wait() -> None:
        has_begun.set()
        may_end.wait(10)
        done.append("first")

    first = asyncio.create_task(work.run(wait))
    assert await asyncio.to_thread(has_begun.wait, 10)
    second = asyncio.create_task(work.run(done.append, "second"))
    await asyncio.sleep(0)
    for task in (second, first):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert done == []
    may_end.set()
    await work.run(done.append, "third")
    assert done == ["first", "third"]
    work.close()


async def test_closing_waits_and_refuses_what_comes_later() -> None:
    """What was asked for before is done; closing twice is harmless."""
    work = BlockingWork("test", threads=2)
    done: list[int] = []
    asked = [asyncio.create_task(work.run(done.append, number)) for number in range(20)]
    await asyncio.sleep(0)
    work.close()
    work.close()
    await asyncio.gather(*asked)
    assert sorted(done) == list(range(20))
    with pytest.raises(StoreUnavailableError, match="closed"):
        await work.run(done.append, 20)


async def test_what_goes_wrong_is_raised_where_it_was_asked_for() -> None:
    """As if there were no thread."""
    work = BlockingWork("test", threads=1)
    with pytest.raises(ZeroDivisionError):
        await work.run(divmod, 1, 0)
    work.close()


async def test_a_process_that_was_forked_has_threads_of_its_own() -> None:
    """Those of its parent are not there any more, so nothing may be given to them."""
    work = BlockingWork("test", threads=1)
    parents = await work.run(threading.current_thread)
    work._pid -= 1  # as it is in a child
    assert await work.run(threading.current_thread) is not parents
    work.close()
