"""The loop watch: what it says, and what it does not."""

import asyncio
import threading
import time
from typing import Any

import pytest
import structlog

from agent_worker.loop_watch import LoopWatch
from shared.testing.waiting import eventually

LIMIT_S = 0.1


async def test_a_loop_that_stood_still_is_reported_with_the_line() -> None:
    """Once it goes on: for how long, and which code held it up."""
    watch = LoopWatch(asyncio.get_running_loop(), limit_s=LIMIT_S)
    with structlog.testing.capture_logs() as entries, watch:
        _hold_up()

        async def is_reported() -> bool:
            return bool(entries)

        await eventually(is_reported)
    entry = entries[0]
    assert (entry["event"], entry["log_level"]) == ("loop.blocked", "warning")
    assert entry["blocked_s"] >= LIMIT_S
    assert any("_hold_up" in call for call in entry["where"])


async def test_a_loop_that_answers_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its tasks wait for something."""
    asked = 0
    loop = asyncio.get_running_loop()
    ask = loop.call_soon_threadsafe

    def count(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return ask(*arguments)

    async def is_asked_often() -> bool:
        return asked > 3

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    with structlog.testing.capture_logs() as entries, LoopWatch(loop, limit_s=0.3):
        await eventually(is_asked_often)
    assert [each for each in entries if each["event"] == "loop.blocked"] == []


async def test_its_thread_ends_with_it() -> None:
    """Also while the loop is the one that waits for it."""
    with LoopWatch(asyncio.get_running_loop(), limit_s=LIMIT_S):
        assert _watches() == 1
    assert _watches() == 0


def _hold_up() -> None:
    time.sleep(5 * LIMIT_S)  # what a tool must not do


def _watches() -> int:
    return sum(thread.name == "loop-watch" for thread in threading.enumerate())
