"""Watchers: they collect what they see, and what they cost is counted."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from agent_client import DeltaEvent, Message, MessageEvent, RunEvent, StatusEvent
from shared.backend import Backend
from shared.errors import StoreUnavailableError
from shared.notification.memory import MemoryNotifications
from shared.testing.waiting import eventually
from tests.unit.client.puppet import Puppet

STEPS = ("say", "say two", "whisper", "hand over", "breathe")


class Watcher:
    """Collects what an iterator of messages yields, in a task."""

    def __init__(self, messages: AsyncIterator[Message]) -> None:
        self.texts: list[str] = []
        self._messages = messages
        self._task = asyncio.create_task(self._collect())

    async def sees(self, *texts: str) -> None:
        """Wait until exactly these texts were seen."""

        async def has_seen() -> bool:
            return len(self.texts) >= len(texts) or self._task.done()

        await eventually(has_seen)
        assert self.texts == list(texts)

    async def end(self) -> list[str]:
        """Wait for the end of the iterator; what it yielded."""
        await asyncio.wait_for(self._task, 10)
        return self.texts

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _collect(self) -> None:
        async for message in self._messages:
            self.texts.append(message.text)


async def texts_of(messages: AsyncIterator[Message]) -> list[str]:
    return [message.text async for message in messages]


def told(events: Sequence[RunEvent]) -> list[str]:
    """The events in short."""
    return [_short(event) for event in events]


def _short(event: RunEvent) -> str:
    if isinstance(event, MessageEvent):
        return f"{event.message.position}: {event.message.text}"
    if isinstance(event, DeltaEvent):
        return f"{event.position}~ {event.text}"
    return event.status.value


async def collect(events: AsyncIterator[RunEvent]) -> list[RunEvent]:
    return [event async for event in events]


async def perform(backend: Backend, run_id: str, steps: Sequence[str]) -> None:
    """Execute a run from its first lease to its end, as the steps say."""
    puppet = Puppet(backend)
    await puppet.take(run_id)
    for number, step in enumerate(steps):
        if step == "say":
            await puppet.say(run_id, f"text {number}")
        elif step == "say two":
            await puppet.say(run_id, f"text {number}", "and more")
        elif step == "whisper":
            await puppet.whisper(run_id, f"piece {number}")
        elif step == "hand over":
            await puppet.hand_over(run_id)
            await puppet.take(run_id)
        else:
            await asyncio.sleep(0)  # so that who watches reads in the middle of it
    await puppet.finish(run_id)


def check_order(events: Sequence[RunEvent]) -> None:
    """What every sequence of a whole run has to be."""
    positions = [event.message.position for event in events if isinstance(event, MessageEvent)]
    assert positions == list(range(len(positions)))
    statuses = [index for index, event in enumerate(events) if isinstance(event, StatusEvent)]
    assert told([events[index] for index in statuses[:2]]) == ["queued", "running"]
    first_message = next(i for i, event in enumerate(events) if isinstance(event, MessageEvent))
    assert statuses[1] < first_message
    assert statuses[-1] == len(events) - 1
    assert told(events[-1:]) == ["completed"]
    stored = -1
    for event in events:
        if isinstance(event, MessageEvent):
            stored = event.message.position
        elif isinstance(event, DeltaEvent):
            assert event.position == stored + 1


def subscriptions(backend: Backend) -> dict[str, set[Any]]:
    notifications = backend.ledger.notifications
    assert isinstance(notifications, MemoryNotifications)
    return notifications._listeners


async def eventually_unsubscribed(backend: Backend) -> None:
    async def nobody_watches() -> bool:
        return not subscriptions(backend)

    await eventually(nobody_watches)


async def is_subscribed(backend: Backend) -> None:
    async def somebody_watches() -> bool:
        return bool(subscriptions(backend))

    await eventually(somebody_watches)


def count_calls(monkeypatch: pytest.MonkeyPatch, target: object, name: str) -> list[object]:
    """Note each call of a method from here on."""
    calls: list[object] = []
    original = getattr(target, name)

    async def counted(*args: Any, **kwargs: Any) -> object:
        calls.append(args)
        return await original(*args, **kwargs)

    monkeypatch.setattr(target, name, counted)
    return calls


def fail_every_other_call(monkeypatch: pytest.MonkeyPatch, target: object, name: str) -> None:
    """Lose the answer of the first call, the third and so on; the call itself is made."""
    calls = count_calls(monkeypatch, target, name)
    counted = getattr(target, name)

    async def failing(*args: Any, **kwargs: Any) -> object:
        answer = await counted(*args, **kwargs)
        if len(calls) % 2:
            raise StoreUnavailableError("away for a moment")
        return answer

    monkeypatch.setattr(target, name, failing)
