"""Managed conversations as a client sees them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_client import (
    AsyncAgentClient,
    ConversationBusyError,
    ConversationInactiveError,
    InvalidIdError,
    Mode,
    PayloadTooLargeError,
    RequestError,
    Settings,
    UnknownConversationError,
)
from shared.backend import Archive, Backend
from shared.conversation.memory import MemoryConversationStore
from shared.errors import ConfigurationError
from shared.notification.memory import MemoryNotifications
from shared.testing.waiting import eventually
from tests.unit.client.puppet import AGENT, Doorbell, Puppet

ADA: dict[str, Any] = {"channel": "web", "user": "ada", "agent": AGENT}


@pytest.fixture
async def attic(settings: Settings, backend: Backend) -> AsyncIterator[AsyncAgentClient]:
    """A client that has an archive."""
    archive = Archive("attic", MemoryConversationStore(MemoryNotifications()))
    async with AsyncAgentClient(
        settings, backend=replace(backend, archive=archive), dispatcher=Doorbell()
    ) as client:
        yield client


async def play(client: AsyncAgentClient, puppet: Puppet, conversation_id: str) -> str:
    """A run of two messages."""
    run = await client.submit(AGENT, "hello", conversation_id=conversation_id)
    await puppet.take(run.id)
    await puppet.say(run.id, "done")
    await puppet.finish(run.id)
    return run.id


async def test_a_session_is_opened_used_closed_and_opened_again(
    client: AsyncAgentClient, puppet: Puppet
) -> None:
    """The record follows; the closed conversation stays to be read."""
    record = await client.managed.open(**ADA, title="Tea", metadata={"a": 1})
    run_id = await play(client, puppet, record.id)
    record = await client.managed.get(record.id)
    assert (record.id, record.message_count, record.runs) == ("web:ada:clerk", 2, 1)
    closed = await client.managed.deactivate(record.id)
    assert (closed.active, closed.message_count) == (False, 2)
    with pytest.raises(ConversationInactiveError):
        await client.submit(AGENT, "hello", conversation_id=record.id)
    again = await client.managed.open(**ADA)
    assert (again.id, again.message_count, again.title) == ("web:ada:clerk:2", 0, None)
    assert [message.run_id for message in await client.history(record.id)] == [run_id] * 2
    assert (await client.run(run_id).get()).conversation_id == record.id


@pytest.mark.parametrize(
    ("given", "conversation_id", "user", "mode"),
    [
        ({"user": "ada"}, "web:ada:clerk", "ada", Mode.PER_USER),
        ({"mode": Mode.SHARED}, "web:@shared:clerk", None, Mode.SHARED),
        ({"trigger": "t1"}, "web:@trigger.t1:clerk", None, Mode.PER_TRIGGER),
        ({"trigger": "t1", "user": "ada"}, "web:@trigger.t1:clerk", "ada", Mode.PER_TRIGGER),
    ],
)
async def test_the_mode_follows_from_what_is_given(
    client: AsyncAgentClient, given: dict[str, Any], conversation_id: str, user: str, mode: Mode
) -> None:
    """Or is said, and then has to fit."""
    record = await client.managed.open(channel="web", agent=AGENT, **given)
    assert (record.id, record.user, record.mode) == (conversation_id, user, mode)
    said = await client.managed.open(channel="web", agent=AGENT, **(given | {"mode": mode}))
    assert said == record


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"mode": Mode.PER_USER},
        {"mode": Mode.PER_TRIGGER, "user": "ada"},
        {"mode": Mode.PER_USER, "user": "ada", "trigger": "t"},
        {"mode": Mode.SHARED, "user": "ada"},
        {"user": "ada:eve"},
        {"user": "@shared"},
        {"user": "../ada"},
        {"trigger": "t", "user": "a b"},
        {"user": "ada", "title": "x" * 501},
        {"user": "ada", "metadata": {"a": {1, 2}}},
        {"user": "ada", "metadata": {"a": "x" * 300}},
    ],
)
async def test_what_does_not_fit_is_refused(
    client: AsyncAgentClient, given: dict[str, Any]
) -> None:
    """And makes no record."""
    with pytest.raises((RequestError, InvalidIdError, PayloadTooLargeError)):
        await client.managed.open(channel="web", agent=AGENT, **given)
    assert (await client.managed.list()).records == ()


async def test_a_reset_gives_everybody_the_same_new_conversation(client: AsyncAgentClient) -> None:
    """Twice with one id, or with that of a conversation that is closed already."""
    record = await client.managed.open(**ADA)
    for _ in range(2):
        assert (await client.managed.reset(record.id)).id == "web:ada:clerk:2"


async def test_lists_are_filtered_and_paged(client: AsyncAgentClient, puppet: Puppet) -> None:
    """By who and when; each record with its number of messages."""
    for user in ("ada", "eve", "bob"):
        await client.managed.open(channel="web", user=user, agent=AGENT)
    await play(client, puppet, "web:eve:clerk")
    page = await client.managed.list(channel="web", limit=2)
    assert page.records[0].id == "web:eve:clerk"
    assert page.records[0].message_count == 2
    rest = await client.managed.list(channel="web", limit=2, after=page.next)
    assert (len(rest.records), rest.next) == (1, None)
    now = datetime.now(UTC) + timedelta(seconds=1)
    assert (await client.managed.list(created_since=now)).records == ()
    assert len((await client.managed.list(active_until=now, active=True)).records) == 3
    with pytest.raises(RequestError, match="zone"):
        await client.managed.list(created_since=datetime.now())  # noqa: DTZ005 - that is the point


async def test_a_conversation_is_updated(client: AsyncAgentClient) -> None:
    """Title and metadata, each as a whole."""
    record = await client.managed.open(**ADA, title="a", metadata={"x": 1})
    record = await client.managed.update(record.id, metadata={"y": 2})
    assert (record.title, record.metadata) == ("a", {"y": 2})
    with pytest.raises(RequestError):
        await client.managed.update(record.id, title="x" * 501)


async def test_a_fork_is_what_the_session_goes_on_with(
    client: AsyncAgentClient, puppet: Puppet
) -> None:
    """Its record names the parent; a run in it adds to it alone."""
    record = await client.managed.open(**ADA)
    await play(client, puppet, record.id)
    [first, _] = await client.history(record.id)
    forked = await client.managed.fork(record.id, first.id)
    assert (forked.id, forked.message_count) == ("web:ada:clerk:2", 1)
    assert forked.parent is not None
    assert (await client.managed.open(**ADA)).id == forked.id
    await play(client, puppet, forked.id)
    assert (await client.managed.get(forked.id)).message_count == 3
    assert (await client.managed.get(record.id)).message_count == 2
    into = await client.managed.fork(record.id, first.id, into="web:eve:clerk")
    assert (into.id, into.user) == ("web:eve:clerk", "eve")


async def test_an_archived_conversation_is_read_and_purged(
    attic: AsyncAgentClient, puppet: Puppet
) -> None:
    """As if it were still here."""
    record = await attic.managed.open(**ADA)
    await play(attic, puppet, record.id)
    archived = await attic.managed.archive(record.id)
    assert (archived.archived, archived.message_count) == ("attic", 2)
    assert [message.text for message in await attic.history(record.id)] == ["hello", "done"]
    assert [message.text for message in await attic.history(record.id, limit=1)] == ["done"]
    purged = await attic.managed.purge(record.id)
    assert (purged.messages, purged.runs) == (2, 1)
    assert await attic.history(record.id) == []
    with pytest.raises(UnknownConversationError):
        await attic.managed.get(record.id)


async def test_all_of_a_user_is_purged(client: AsyncAgentClient, puppet: Puppet) -> None:
    """Except where a run has not ended: there it is refused, and the rest is done."""
    for agent in (AGENT, "cook"):
        await client.managed.open(channel="web", user="ada", agent=agent)
    run = await client.submit(AGENT, "hello", conversation_id="web:ada:clerk")
    with pytest.raises(ConversationBusyError) as refused:
        await client.managed.purge_user("ada")
    assert refused.value.run_id == run.id
    assert [each.id for each in (await client.managed.list()).records] == ["web:ada:clerk"]
    await run.cancel()
    [purged] = await client.managed.purge_user("ada")
    assert (purged.conversation_id, purged.runs) == ("web:ada:clerk", 1)


async def test_idle_conversations_are_closed_when_somebody_tidies(backend: Backend) -> None:
    """By the settings of whoever does it."""
    settings = Settings(conversation_idle_s=0.001)
    async with AsyncAgentClient(settings, backend=backend, dispatcher=Doorbell()) as client:
        record = await client.managed.open(**ADA)

        async def is_closed() -> bool:
            await client.managed.tidy()
            return not (await client.managed.get(record.id)).active

        await eventually(is_closed)


@pytest.mark.parametrize("conversation_id", ["plain", "web:ada", "web:ada:clerk:1", "../etc"])
async def test_an_id_that_is_not_managed_is_refused(
    client: AsyncAgentClient, conversation_id: str
) -> None:
    """By its form already."""
    for attempt in (
        client.managed.get(conversation_id),
        client.managed.deactivate(conversation_id),
        client.managed.reset(conversation_id),
        client.managed.update(conversation_id, title="x"),
        client.managed.fork(conversation_id, "m"),
        client.managed.archive(conversation_id),
    ):
        with pytest.raises(InvalidIdError):
            await attempt


async def test_a_backend_without_a_directory_says_so(backend: Backend) -> None:
    """Everything else goes on as before."""
    bare = replace(backend, directory=None)
    async with AsyncAgentClient(Settings(), backend=bare, dispatcher=Doorbell()) as client:
        with pytest.raises(ConfigurationError, match="directory"):
            await client.managed.open(**ADA)
        assert await client.history("web:ada:clerk") == []
