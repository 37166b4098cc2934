"""Watching in bad times: lost hints, stores that are away, and who leaves in the middle."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import permutations
from typing import Any

import pytest

from agent_client import AsyncAgentClient, AsyncRun, watching
from shared.backend import Backend
from shared.errors import StoreUnavailableError
from shared.notification.memory import MemoryNotifications
from tests.unit.client.puppet import AGENT, Doorbell, Puppet
from tests.unit.client.watcher import (
    Watcher,
    eventually_unsubscribed,
    fail_every_other_call,
    is_subscribed,
    subscriptions,
    texts_of,
)


async def test_a_lost_hint_delays_a_message_and_loses_none(
    run: AsyncRun, puppet: Puppet, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any hint, watchers look again now and then."""
    monkeypatch.setattr(watching, "RECHECK_S", 0.02)
    monkeypatch.setattr(MemoryNotifications, "publish", lambda *_: None)
    watcher = Watcher(run.watch())
    ended = asyncio.create_task(run.result())
    await puppet.take(run.id)
    await watcher.sees("hello")
    await puppet.say(run.id, "one")
    await watcher.sees("hello", "one")
    await puppet.finish(run.id)
    assert await watcher.end() == ["hello", "one"]
    assert (await asyncio.wait_for(ended, 10)).output == "done"


@pytest.mark.parametrize(
    ("where", "name"),
    [("conversations", "list_messages"), ("ledger", "list_events"), ("ledger", "get")],
)
async def test_an_outage_leaves_no_gap_and_no_duplicate(
    run: AsyncRun,
    puppet: Puppet,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    name: str,
) -> None:
    """Every other read fails, of each kind of read: the watcher sees everything once."""
    fail_every_other_call(monkeypatch, getattr(backend, where), name)
    watcher = Watcher(run.watch())
    await puppet.take(run.id)
    expected = ["hello"]
    for number in range(5):
        await puppet.say(run.id, str(number))
        expected.append(str(number))
        await watcher.sees(*expected)
    await puppet.finish(run.id)
    assert await watcher.end() == expected


@pytest.mark.parametrize(("where", "name"), [("ledger", "get"), ("conversations", "list_messages")])
async def test_an_outage_that_lasts_is_an_error_in_bounded_time(
    backend: Backend,
    doorbell: Doorbell,
    puppet: Puppet,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    name: str,
) -> None:
    """One of the stores does not come back within reconnect_s: the watch ends with its error."""
    client = AsyncAgentClient(backend=backend, dispatcher=doorbell, reconnect_s=0.2)
    run = await client.submit(AGENT, "hello")
    await puppet.take(run.id)

    async def away(*_: object, **__: object) -> object:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(getattr(backend, where), name, away)
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(texts_of(run.watch()), 10)


async def test_a_result_is_not_awaited_for_ever_without_a_store(
    backend: Backend, doorbell: Doorbell, puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting for the end bears with an outage for as long as watching does, and no longer."""
    client = AsyncAgentClient(backend=backend, dispatcher=doorbell, reconnect_s=0.2)
    run = await client.submit(AGENT, "hello")

    async def away(run_id: str) -> object:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(backend.ledger, "get", away)
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(run.result(), 10)


async def test_closing_the_client_does_not_leave_watchers_trying(
    client: AsyncAgentClient, run: AsyncRun, backend: Backend
) -> None:
    """Once client and stores are closed, a watcher ends with an error instead of reconnecting."""
    watcher = Watcher(run.watch())
    await is_subscribed(backend)
    await client.aclose()
    await backend.aclose()
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(watcher.end(), 1)


async def test_who_leaves_early_leaves_nothing_behind(
    run: AsyncRun, puppet: Puppet, backend: Backend
) -> None:
    """Neither a subscription nor a task outlives a watch that was closed or cancelled."""
    before = asyncio.all_tasks()
    await puppet.take(run.id)
    async with aclosing(run.watch()) as messages:
        assert (await anext(messages)).text == "hello"
    watcher = Watcher(run.watch())
    await watcher.sees("hello")
    await watcher.stop()
    assert not subscriptions(backend)
    assert asyncio.all_tasks() == before


async def test_a_conversation_is_watched_across_an_outage(
    client: AsyncAgentClient,
    run: AsyncRun,
    puppet: Puppet,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reads that fail cost its watcher time, and no message."""
    fail_every_other_call(monkeypatch, backend.conversations, "list_messages")
    watcher = Watcher(client.watch_conversation("web:ada"))
    await puppet.take(run.id)
    await watcher.sees("hello")
    await puppet.say(run.id, "one", "two")
    await watcher.sees("hello", "one", "two")
    await watcher.stop()


@pytest.mark.parametrize("kind", ["messages", "events", "conversation"])
async def test_an_event_loop_that_ends_may_close_a_watch_and_its_parts_in_any_order(
    client: AsyncAgentClient, run: AsyncRun, puppet: Puppet, backend: Backend, kind: str
) -> None:
    """asyncio closes all generators at once, those inside others as well, and none complains."""
    await puppet.take(run.id)
    generators: set[AsyncGenerator[Any, None]] = asyncio.get_running_loop()._asyncgens  # type: ignore[attr-defined]  # asyncio's own list

    async def open_watch() -> list[AsyncGenerator[Any, None]]:
        before = set(generators)
        watches: dict[str, AsyncGenerator[Any, None]] = {
            "messages": run.watch(),
            "events": run.events(),
            "conversation": client.watch_conversation("web:ada"),
        }
        await anext(watches[kind])
        return [generator for generator in generators if generator not in before]

    parts = len(await open_watch())
    for order in permutations(range(parts)):
        opened = await open_watch()
        closing = (opened[index].aclose() for index in order)
        assert await asyncio.gather(*closing, return_exceptions=True) == [None] * parts
    await eventually_unsubscribed(backend)


def test_a_program_that_ends_in_the_middle_of_a_watch_ends_quietly() -> None:
    """An event loop that ends closes watches, and what they are made of, in any order."""
    program = """
import asyncio
from agent_client import AsyncAgentClient, Settings
from shared.memory_backend import build_memory_backend
from tests.unit.client.puppet import Doorbell, Puppet

left = []

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no noise of ours
    backend = build_memory_backend(Settings())
    puppet = Puppet(backend)
    await puppet.beat()
    client = AsyncAgentClient(backend=backend, dispatcher=Doorbell())
    run = await client.submit("clerk", "hello", conversation_id="web:ada")
    await puppet.take(run.id)
    for watch in (run.watch(), run.events(), client.watch_conversation("web:ada")):
        await anext(watch)
        left.append(watch)
    left.append(asyncio.create_task(anext(left[0])))
    left.append(asyncio.create_task(run.result()))
    for _ in range(10):
        await asyncio.sleep(0)

for _ in range(20):
    asyncio.run(main())
    left.clear()
"""
    answer = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, check=True
    )
    assert (answer.stdout, answer.stderr) == ("", "")
