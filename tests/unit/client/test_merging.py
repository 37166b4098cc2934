"""Events: messages, status changes and deltas as one sequence, resumable at each of them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_client import (
    AsyncAgentClient,
    AsyncRun,
    DeltaEvent,
    RunEvent,
    RunStatus,
    Settings,
    StatusEvent,
    watching,
)
from agent_client.merging import Merger, format_cursor, parse_cursor
from shared.backend import Backend
from shared.errors import InvalidCursorError, StoreUnavailableError
from shared.memory_backend import build_memory_backend
from shared.message import Message, user_draft
from shared.testing.waiting import eventually
from tests.unit.client.puppet import AGENT, Doorbell, Puppet
from tests.unit.client.watcher import STEPS, check_order, collect, perform, told


async def test_a_whole_run_is_told_in_order(run: AsyncRun, puppet: Puppet) -> None:
    """Queued, running, the input, deltas before the message they belong to, and last the end."""
    live = asyncio.create_task(collect(run.events()))
    await puppet.take(run.id)
    await puppet.whisper(run.id, "Hel", "lo")
    await puppet.say(run.id, "Hello")
    await puppet.whisper(run.id, "Bye")
    await puppet.say(run.id, "Bye")
    await puppet.finish(run.id)
    expected = ["queued", "running", "0: hello", "1~ Hel", "1~ lo", "1: Hello", "2~ Bye", "2: Bye"]
    assert told(await asyncio.wait_for(live, 10)) == [*expected, "completed"]
    assert told(await collect(run.events())) == [*expected, "completed"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=12))
def test_any_run_is_told_in_order_and_resumed_anywhere(steps: list[str]) -> None:
    """Live or later, the order holds; behind each cursor comes exactly the rest, in that order."""

    async def check() -> None:
        backend = build_memory_backend(Settings())
        await Puppet(backend).beat()
        client = AsyncAgentClient(backend=backend, dispatcher=Doorbell())
        run = await client.submit(AGENT, "hello")
        live = asyncio.create_task(collect(run.events()))
        await perform(backend, run.id, steps)
        seen = await asyncio.wait_for(live, 10)
        replayed = await collect(run.events())
        for events in (seen, replayed):
            check_order(events)
        assert sorted(told(seen)) == sorted(told(replayed))
        for number, event in enumerate(replayed, start=1):
            assert await collect(run.events(after=event.cursor)) == replayed[number:]
        for number, event in enumerate(seen, start=1):
            rest = await collect(run.events(after=event.cursor))
            assert sorted(told(rest)) == sorted(told(seen[number:]))
        await backend.aclose()

    asyncio.run(check())


async def test_who_resumes_a_run_that_goes_on_sees_the_rest_live(
    run: AsyncRun, puppet: Puppet
) -> None:
    """Behind a cursor come what was stored since, and what happens from now on."""
    await puppet.take(run.id)
    await puppet.whisper(run.id, "Hel")
    events = run.events()
    before = [await anext(events) for _ in range(4)]
    await events.aclose()
    live = asyncio.create_task(collect(run.events(after=before[-1].cursor)))
    await puppet.whisper(run.id, "lo")
    await puppet.say(run.id, "Hello")
    await puppet.finish(run.id)
    assert told(before) == ["queued", "running", "0: hello", "1~ Hel"]
    assert told(await asyncio.wait_for(live, 10)) == ["1~ lo", "1: Hello", "completed"]


async def test_behind_the_end_there_is_nothing(run: AsyncRun, puppet: Puppet) -> None:
    """Resuming behind the final event ends at once, also when its log is long forgotten."""
    await puppet.take(run.id)
    await puppet.finish(run.id)
    *_, last = await collect(run.events())
    assert await collect(run.events(after=last.cursor)) == []


async def test_when_events_are_forgotten_messages_and_the_end_remain(
    run: AsyncRun, puppet: Puppet, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late reader gets the final status from the run's record."""
    await puppet.take(run.id)
    await puppet.say(run.id, "Hello")
    await puppet.finish(run.id)

    async def forgotten(*_: object, **__: object) -> list[RunEvent]:
        return []

    monkeypatch.setattr(backend.ledger, "list_events", forgotten)
    events = await collect(run.events())
    assert told(events) == ["0: hello", "1: Hello", "completed"]
    last, record = events[-1], await run.get()
    assert isinstance(last, StatusEvent)
    assert (last.created_at, last.worker_id, last.attempt) == (record.finished_at, "puppet-1", 1)


async def test_a_cancelled_run_ends_with_its_status(run: AsyncRun) -> None:
    """A run that never started has two events."""
    live = asyncio.create_task(collect(run.events()))
    await run.cancel()
    assert told(await asyncio.wait_for(live, 10)) == ["queued", "cancelled"]


async def test_a_rollback_is_told_by_the_end(
    client: AsyncAgentClient,
    run: AsyncRun,
    puppet: Puppet,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The messages were seen; the end says that they are gone, also when events are forgotten."""
    await puppet.take(run.id)
    live = asyncio.create_task(collect(run.events()))
    await puppet.say(run.id, "Hello")
    await client.submit(AGENT, "instead", conversation_id="web:ada", on_busy="rollback")
    await puppet.roll_back(run.id)
    seen = await asyncio.wait_for(live, 10)
    later = await collect(run.events())
    assert told(seen)[-1] == "cancelled"
    assert told(later) == ["queued", "running", "cancelled"]

    async def forgotten(*_: object, **__: object) -> list[RunEvent]:
        return []

    monkeypatch.setattr(backend.ledger, "list_events", forgotten)
    for events in (seen, later, await collect(run.events())):
        last = events[-1]
        assert isinstance(last, StatusEvent)
        assert last.rolled_back


@pytest.mark.parametrize(
    ("where", "name"),
    [("conversations", "list_messages"), ("ledger", "list_events"), ("ledger", "get")],
)
async def test_an_outage_leaves_no_gap_and_no_duplicate(
    run: AsyncRun, backend: Backend, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    """Every other read of a kind fails, and still each event comes once and in order."""
    target, calls = getattr(backend, where), 0
    original = getattr(target, name)

    async def failing(*args: Any, **kwargs: Any) -> object:
        nonlocal calls
        calls += 1
        answer = await original(*args, **kwargs)
        if calls % 2:
            raise StoreUnavailableError("away for a moment")
        return answer

    monkeypatch.setattr(target, name, failing)
    live = asyncio.create_task(collect(run.events()))
    await perform(backend, run.id, ["whisper", "say", "breathe", "whisper", "whisper", "say two"])
    events = await asyncio.wait_for(live, 10)
    check_order(events)
    assert len(events) == 2 + 3 + 4 + 1


async def test_a_message_stored_between_the_two_reads_comes_before_its_successors_deltas(
    run: AsyncRun, puppet: Puppet, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delta whose predecessor was not read yet waits for the next look."""
    await puppet.take(run.id)
    read = backend.conversations.list_messages
    is_first = True

    async def overtaken(*args: Any, **kwargs: Any) -> list[Message]:
        nonlocal is_first
        messages = await read(*args, **kwargs)
        if is_first:
            is_first = False
            await puppet.say(run.id, "one")
            await puppet.whisper(run.id, "two?")
        return messages

    monkeypatch.setattr(backend.conversations, "list_messages", overtaken)
    events = run.events()
    seen = [await anext(events) for _ in range(5)]
    await events.aclose()
    assert told(seen) == ["queued", "running", "0: hello", "1: one", "2~ two?"]


async def test_a_message_stored_between_the_two_reads_does_not_come_before_its_own_deltas(
    run: AsyncRun, puppet: Puppet, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens after the first of two reads, the pieces of a message come before it."""
    await puppet.take(run.id)
    overtake_once(monkeypatch, backend.conversations, "list_messages", puppet, run.id)
    overtake_once(monkeypatch, backend.ledger, "list_events", puppet, run.id)
    live = asyncio.create_task(collect(run.events()))
    await asyncio.sleep(0)
    await puppet.finish(run.id)
    events = await asyncio.wait_for(live, 10)
    check_order(events)
    assert told(events).index("1~ On") < told(events).index("1: One")
    assert told(events).index("2~ On") < told(events).index("2: One")


def overtake_once(
    monkeypatch: pytest.MonkeyPatch, target: object, name: str, puppet: Puppet, run_id: str
) -> None:
    """Right after the next read by this method, the run gets a message with a delta before it."""
    read = getattr(target, name)
    is_first = True

    async def overtaken(*args: Any, **kwargs: Any) -> object:
        nonlocal is_first
        answer = await read(*args, **kwargs)
        if is_first:
            is_first = False
            await puppet.whisper(run_id, "On")
            await puppet.say(run_id, "One")
        return answer

    monkeypatch.setattr(target, name, overtaken)


async def test_status_changes_stand_where_they_happened(run: AsyncRun, puppet: Puppet) -> None:
    """A hand-over is told between the messages before and after it, also to who comes late."""
    await puppet.take(run.id)
    await puppet.say(run.id, "one")
    await puppet.hand_over(run.id)
    await puppet.take(run.id)
    await puppet.say(run.id, "two")
    await puppet.finish(run.id)
    assert told(await collect(run.events())) == [
        *("queued", "running", "0: hello", "1: one"),
        *("queued", "running", "2: two", "completed"),
    ]


def test_the_start_comes_before_the_messages_whatever_the_clocks_say() -> None:
    """A worker whose clock is late does not seem to have written before it started."""
    merger = Merger("run", None, None)
    message = Message.from_draft(user_draft("hello"), run_id="run", position=0)
    merger.messages.append(message.at("1-0"))
    for number, status in enumerate((RunStatus.QUEUED, RunStatus.RUNNING)):
        event = StatusEvent(
            run_id="run",
            status=status,
            attempt=number,
            created_at=message.created_at + timedelta(seconds=30),
        )
        merger.events.append(event.model_copy(update={"cursor": f"{number}-0"}))
    assert told(list(merger.merge(is_last=False))) == ["queued", "running", "0: hello"]


async def test_a_long_log_of_events_is_read_to_its_end(
    run: AsyncRun, puppet: Puppet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events than one read returns are all told, and the end among them is noticed."""
    monkeypatch.setattr(watching, "EVENT_PAGE", 2)
    await puppet.take(run.id)
    await puppet.whisper(run.id, *"abcdefg")
    live = [asyncio.create_task(collect(run.events())) for _ in range(2)]
    await puppet.say(run.id, "abcdefg")
    await puppet.finish(run.id)
    for task in live:
        events = await asyncio.wait_for(task, 10)
        assert len([event for event in events if isinstance(event, DeltaEvent)]) == 7
        check_order(events)


async def test_a_delta_does_not_wait_for_a_message_that_was_cleared(
    client: AsyncAgentClient, puppet: Puppet
) -> None:
    """A cleared history leaves holes, and nobody waits for ever for what fell into them."""
    run = await client.submit(AGENT, "hello", conversation_id="web:ada")
    await puppet.take(run.id)
    await client.clear("web:ada")
    await puppet.whisper(run.id, "still", "here")
    events = run.events()
    seen = [await asyncio.wait_for(anext(events), 5) for _ in range(4)]
    await events.aclose()
    assert told(seen) == ["queued", "running", "1~ still", "1~ here"]


async def test_watching_events_waits_between_looks(
    run: AsyncRun, puppet: Puppet, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is read while nothing happens: watching is pushed, not polled."""
    reads = 0
    original = backend.ledger.list_events

    async def counted(*args: Any, **kwargs: Any) -> object:
        nonlocal reads
        reads += 1
        return await original(*args, **kwargs)

    monkeypatch.setattr(backend.ledger, "list_events", counted)
    await puppet.take(run.id)
    seen: list[RunEvent] = []

    async def follow() -> None:
        seen.extend([event async for event in run.events()])

    live = asyncio.create_task(follow())

    async def has_read() -> bool:
        return reads > 0

    await eventually(has_read)
    for _ in range(50):
        await asyncio.sleep(0)
    assert reads <= 2
    live.cancel()
    await asyncio.wait({live})


@pytest.mark.parametrize("rubbish", ["", "5-0", "no separator"])
async def test_the_cursor_of_something_else_is_refused_at_once(run: AsyncRun, rubbish: str) -> None:
    """A message's cursor, or no cursor at all, is an error where it is passed."""
    with pytest.raises(InvalidCursorError, match="cursor"):
        run.events(after=rubbish)


async def test_a_cursor_of_another_store_is_refused(run: AsyncRun, puppet: Puppet) -> None:
    """What has the right form and is no cursor of the stores is an error of the first read."""
    await puppet.take(run.id)
    for rubbish in ("|rubbish", "rubbish|"):
        with pytest.raises(InvalidCursorError):
            await collect(run.events(after=rubbish))


@given(st.none() | st.text(min_size=1), st.none() | st.from_regex(r"[0-9]+-[0-9]+", fullmatch=True))
def test_a_cursor_is_read_as_it_was_written(history: str | None, event: str | None) -> None:
    """Whatever the cursors of a history look like, the two parts come apart again."""
    assert parse_cursor(format_cursor(history, event)) == (history, event)


def test_a_rolled_back_run_forgets_the_messages_not_told_yet() -> None:
    """After an event that says so, messages read before are gone, and positions start again."""
    merger = Merger("run", None, None)
    message = Message.from_draft(user_draft("gone"), run_id="run", position=0)
    merger.messages.append(message.at("1-0"))
    merger.events.append(
        StatusEvent(
            run_id="run",
            status=RunStatus.QUEUED,
            attempt=1,
            rolled_back=True,
            created_at=message.created_at,
            cursor="1-0",
        )
    )
    assert told(list(merger.merge(is_last=False))) == ["queued"]
    assert not merger.messages
