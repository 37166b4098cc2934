"""Watching messages: everything, once, in order, at once, across outages, until the end."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import pytest

from agent_client import AsyncAgentClient, AsyncRun, Message, RemovedEvent
from shared.backend import Backend
from shared.errors import InvalidCursorError, UnknownRunError
from shared.identifier import new_run_id
from shared.testing.waiting import eventually
from tests.unit.client.puppet import AGENT, Puppet
from tests.unit.client.watcher import Watcher, count_calls, is_subscribed, subscriptions, texts_of

Value = TypeVar("Value")


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


async def test_who_shows_a_conversation_is_told_of_a_rollback(
    client: AsyncAgentClient, run: AsyncRun, puppet: Puppet
) -> None:
    """Before what comes instead, and which run it was; also when nobody was watching just then."""
    await puppet.take(run.id)
    await puppet.finish(run.id)
    second = await client.submit(AGENT, "wrong", conversation_id="web:ada")
    await puppet.take(second.id)
    await puppet.say(second.id, "oops")
    changes = client.watch_changes("web:ada")
    seen = [await next_of(changes) for _ in range(3)]
    assert [each.text for each in seen if isinstance(each, Message)] == ["hello", "wrong", "oops"]
    third = await client.submit(AGENT, "right", conversation_id="web:ada", on_busy="rollback")
    await puppet.roll_back(second.id)
    assert await next_of(changes) == RemovedEvent(run_id=second.id)
    await puppet.take(third.id)
    following = await next_of(changes)
    assert isinstance(following, Message)
    assert following.text == "right"
    resumed = client.watch_changes("web:ada", after=cursor_of(seen[-1]))
    assert await next_of(resumed) == RemovedEvent(run_id=None)
    assert await next_of(resumed) == following
    undisturbed = client.watch_changes("web:ada", after=cursor_of(seen[0]))
    assert await next_of(undisturbed) == following
    plain = client.watch_conversation("web:ada", after=cursor_of(seen[-1]))
    assert await next_of(plain) == following
    for each in (changes, resumed, undisturbed, plain):
        await each.aclose()


async def test_who_shows_a_conversation_is_told_of_a_clear(
    client: AsyncAgentClient, run: AsyncRun, puppet: Puppet
) -> None:
    """Everything is gone, which names no run; and that is told once."""
    await puppet.take(run.id)
    changes = client.watch_changes("web:ada")
    await next_of(changes)
    await client.clear("web:ada")
    assert await next_of(changes) == RemovedEvent(run_id=None)
    await puppet.say(run.id, "still here")
    following = await next_of(changes)
    assert isinstance(following, Message)
    assert following.text == "still here"
    await changes.aclose()


async def next_of(changes: AsyncGenerator[Value, None]) -> Value:
    """What comes next, which does come."""
    async with asyncio.timeout(10):
        return await anext(changes)


def cursor_of(change: Message | RemovedEvent) -> str | None:
    """The cursor of a change that is a message."""
    assert isinstance(change, Message)
    return change.cursor


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
