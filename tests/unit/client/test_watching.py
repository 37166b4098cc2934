"""Watching messages: everything, once, in order, at once, across outages, until the end."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from agent_client import AsyncAgentClient, AsyncRun, Message, watching
from shared.backend import Backend
from shared.errors import InvalidCursorError, StoreUnavailableError, UnknownRunError
from shared.identifier import new_run_id
from shared.memory.notification import MemoryNotifications
from tests.unit.client.puppet import AGENT, Doorbell, Puppet
from tests.waiting import eventually


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


@pytest.fixture
async def run(client: AsyncAgentClient, puppet: Puppet) -> AsyncRun:
    return await client.submit(AGENT, "hello", conversation_id="web:ada")


async def texts_of(messages: AsyncIterator[Message]) -> list[str]:
    return [message.text async for message in messages]


async def test_each_message_is_seen_when_it_is_stored(run: AsyncRun, puppet: Puppet) -> None:
    """The input is seen when the run starts, each message before the next exists, then the end."""
    watcher = Watcher(run.watch())
    await puppet.take(run.id)
    await watcher.sees("hello")
    await puppet.say(run.id, "one")
    await watcher.sees("hello", "one")
    await puppet.say(run.id, "two", "three")
    await watcher.sees("hello", "one", "two", "three")
    await puppet.finish(run.id)
    assert await watcher.end() == ["hello", "one", "two", "three"]


async def test_who_comes_late_sees_the_same(run: AsyncRun, puppet: Puppet) -> None:
    """A run that has ended is watched as if it happened now, by id and from its beginning."""
    await puppet.take(run.id)
    await puppet.say(run.id, "one", "two")
    await puppet.finish(run.id)
    assert await texts_of(run.watch()) == ["hello", "one", "two"]


async def test_behind_each_cursor_comes_exactly_the_rest(run: AsyncRun, puppet: Puppet) -> None:
    """Resuming behind any message, of a run that has ended or goes on, gives the others once."""
    await puppet.take(run.id)
    await puppet.say(run.id, "one", "two")
    await puppet.say(run.id, "three")
    stored = await run.history()
    resumed = [Watcher(run.watch(after=message.cursor)) for message in stored]
    await puppet.say(run.id, "four")
    await puppet.finish(run.id)
    everything = [message.text for message in await run.history()]
    for number, watcher in enumerate(resumed, start=1):
        assert await watcher.end() == everything[number:]
    for number, message in enumerate(await run.history(), start=1):
        assert await texts_of(run.watch(after=message.cursor)) == everything[number:]


async def test_messages_of_other_runs_are_not_seen(
    client: AsyncAgentClient, run: AsyncRun, puppet: Puppet
) -> None:
    """A run's watcher sees that run only, though others write to the same conversation."""
    second = await client.submit(AGENT, "me too", conversation_id="web:ada")
    watcher = Watcher(second.watch())
    await puppet.take(run.id)
    await puppet.say(run.id, "one")
    await puppet.finish(run.id)
    await puppet.take(second.id)
    await puppet.finish(second.id)
    assert await watcher.end() == ["me too"]
    assert await texts_of(run.watch()) == ["hello", "one"]


async def test_a_message_stored_between_look_and_end_is_not_missed(
    run: AsyncRun, puppet: Puppet, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last message and the end come right after a read: the watcher reads once more."""
    await puppet.take(run.id)
    read = backend.conversations.list_messages
    is_first = True

    async def overtaken(*args: Any, **kwargs: Any) -> list[Message]:
        nonlocal is_first
        messages = await read(*args, **kwargs)
        if is_first:
            is_first = False
            await puppet.say(run.id, "last")
            await puppet.finish(run.id)
        return messages

    monkeypatch.setattr(backend.conversations, "list_messages", overtaken)
    assert await Watcher(run.watch()).end() == ["hello", "last"]


async def test_a_run_cancelled_before_it_started_has_no_messages(run: AsyncRun) -> None:
    """The watcher of a waiting run ends when the run is cancelled."""
    watcher = Watcher(run.watch())
    await run.cancel()
    assert await watcher.end() == []


async def test_a_rollback_ends_the_watch(run: AsyncRun, puppet: Puppet) -> None:
    """When a run's messages are removed, its watcher ends; a later one sees nothing."""
    watcher = Watcher(run.watch())
    await puppet.take(run.id)
    await watcher.sees("hello")
    await puppet.roll_back(run.id)
    assert await watcher.end() == ["hello"]
    assert await texts_of(run.watch()) == []


async def test_a_run_taken_over_goes_on_where_it_was(
    run: AsyncRun, puppet: Puppet, backend: Backend
) -> None:
    """Handing a run over and taking it again repeats nothing for who watches."""
    watcher = Watcher(run.watch())
    await puppet.take(run.id)
    await puppet.say(run.id, "one")
    await puppet.hand_over(run.id)
    other = Puppet(backend, name="puppet-2")
    await other.take(run.id)
    await other.say(run.id, "two")
    await other.finish(run.id)
    assert await watcher.end() == ["hello", "one", "two"]


async def test_an_unknown_run_and_a_bad_cursor_are_errors(
    client: AsyncAgentClient, run: AsyncRun, puppet: Puppet
) -> None:
    """Neither is mistaken for a run without messages."""
    await puppet.take(run.id)
    with pytest.raises(UnknownRunError):
        await texts_of(client.run(new_run_id(1)).watch())
    with pytest.raises(InvalidCursorError):
        await texts_of(run.watch(after="rubbish"))


async def test_text_deltas_cost_no_read_of_the_history_or_the_run(
    run: AsyncRun, puppet: Puppet, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deltas come with hints, at which a watcher of messages reads the log of events only."""
    watcher = Watcher(run.watch())
    await puppet.take(run.id)
    await watcher.sees("hello")
    reads = count_calls(monkeypatch, backend.conversations, "list_messages")
    looks = count_calls(monkeypatch, backend.ledger, "get")
    events = count_calls(monkeypatch, backend.ledger, "list_events")
    for number in range(5):
        await puppet.whisper(run.id, "piece")

        async def was_read(least: int = number + 1) -> bool:
            return len(events) >= least

        await eventually(was_read)
    assert (reads, looks) == ([], [])
    await puppet.finish(run.id)
    assert await watcher.end() == ["hello"]


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


async def test_a_conversation_is_watched_over_all_its_runs(
    client: AsyncAgentClient, run: AsyncRun, puppet: Puppet
) -> None:
    """Its watcher sees every run's messages in order, from the beginning or from a cursor."""
    watcher = Watcher(client.watch_conversation("web:ada"))
    second = await client.submit(AGENT, "more", conversation_id="web:ada")
    for waiting in (run, second):
        await puppet.take(waiting.id)
        await puppet.say(waiting.id, "answer")
        await puppet.finish(waiting.id)
    await watcher.sees("hello", "answer", "more", "answer")
    first = (await client.history("web:ada"))[0]
    resumed = Watcher(client.watch_conversation("web:ada", after=first.cursor))
    await resumed.sees("answer", "more", "answer")
    for each in (watcher, resumed):
        await each.stop()


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


async def test_a_thousand_watchers_all_see_everything(
    client: AsyncAgentClient, puppet: Puppet, backend: Backend
) -> None:
    """A thousand watchers of fifty runs, some of them resumed, each see each message once."""
    runs = [await client.submit(AGENT, f"hello {number}") for number in range(50)]
    watchers = [(run, Watcher(run.watch())) for run in runs for _ in range(20)]
    await is_subscribed(backend)
    for run in runs:
        await puppet.take(run.id)
        await puppet.say(run.id, "one")
        await puppet.say(run.id, "two")
        await puppet.finish(run.id)
    expected = {run.id: [message.text for message in await run.history()] for run in runs}
    for run, watcher in watchers:
        assert await watcher.end() == expected[run.id]
        assert len(expected[run.id]) == 3
    assert not subscriptions(backend)


def subscriptions(backend: Backend) -> dict[str, set[Any]]:
    notifications = backend.ledger.notifications
    assert isinstance(notifications, MemoryNotifications)
    return notifications._subscriptions


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


def test_a_program_that_ends_in_the_middle_of_a_watch_ends_quietly() -> None:
    """An event loop that ends closes watches, and what they are made of, in any order."""
    program = """
import asyncio
from agent_client import AsyncAgentClient, Settings
from shared.memory_backend import build_memory_backend
from tests.unit.client.puppet import Doorbell, Puppet

left = []

async def main():
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
    await asyncio.sleep(0.01)

for _ in range(20):
    asyncio.run(main())
    left.clear()
"""
    answer = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, check=True
    )
    assert (answer.stdout, answer.stderr) == ("", "")
