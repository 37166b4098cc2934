"""Conversations at OpenAI: errors, the number of calls, what is there and what is not."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI

from shared.conversation import openai_upkeep
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.openai import OpenAIConversationStore
from shared.conversation.openai_api import ItemPage
from shared.conversation.openai_items import LAYER
from shared.conversation.protocol import Writer
from shared.errors import ConfigurationError, RequestError, StoreUnavailableError
from shared.message import MediaPart, Message, MessageKind, Role
from shared.notification.memory import MemoryNotifications
from shared.sealing.encrypted import EncryptedConversations
from shared.sealing.key_ring import KeyRing
from shared.testing.conversation.value import (
    conversation_name,
    imported,
    messages,
    run_name,
    texts,
)
from shared.version import FORMAT_VERSION
from tests.openai_server.fault import Fault
from tests.openai_server.server import OpenAIServer

READS = ("GET items", "GET item")


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
async def client(server: OpenAIServer) -> AsyncIterator[AsyncOpenAI]:
    server.faults.clear()
    async with server.client() as client:
        yield client


@pytest.fixture
def store(client: AsyncOpenAI) -> OpenAIConversationStore:
    index = MemoryConversationStore(MemoryNotifications())
    return OpenAIConversationStore(client, index, call_timeout_s=5)


async def test_a_window_is_read_in_one_call(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """Of a conversation of 300 messages, whichever 20 of them; further up it takes two."""
    name, run_id = conversation_name(), run_name()
    await store.append(name, messages(run_id, range(300)), writer=Writer(run_id, 1))
    stored = await store.list_messages(name)
    for asked, calls in (
        ({"limit": 20}, 1),
        ({"limit": 20, "before": stored[150].cursor}, 2),
        ({"limit": 20, "after": stored[150].cursor}, 3),
        ({"limit": 1}, 1),
    ):
        server.faults.clear()
        assert len(await store.list_messages(name, **asked)) == asked["limit"]
        assert sum(map(server.faults.count, READS)) <= calls
        assert len(server.faults.requests) <= calls
    server.faults.clear()
    claim = await store.claim(name, Writer(run_name(), 2), limit=20)
    assert len(claim.earlier) == 20
    assert server.faults.requests == ["GET items"]


async def test_an_append_of_many_is_made_in_batches(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """The provider takes 20 items in a call; the batch becomes visible in one step."""
    name, run_id = conversation_name(), run_name()
    seen: set[int] = set()
    index = store._index

    async def look() -> None:
        while len(seen) < 2:
            seen.add(await index.count(name))
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await store.append(name, messages(run_id, range(50)), writer=Writer(run_id, 1))
    await looking
    assert seen == {0, 50}
    assert server.faults.count("POST items") == 3


@pytest.mark.parametrize("fault", list(Fault))
async def test_a_provider_that_fails_is_an_error_in_time(
    server: OpenAIServer,
    client: AsyncOpenAI,
    store: OpenAIConversationStore,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    """Whatever was asked of it: rate limits, faults, silence, an answer without an end."""
    monkeypatch.setattr(openai_upkeep, "PATIENCE_S", 0.2)
    name, run_id = conversation_name(), run_name()
    cursors = await store.append(name, messages(run_id, [0, 1]), writer=Writer(run_id, 1))
    clock = asyncio.get_running_loop()
    for request in ("GET items", "GET item", "DELETE item", "POST items", "DELETE conversation"):
        server.faults.plan(request, fault, times=20)
    hasty = OpenAIConversationStore(client, store._index, call_timeout_s=0.5)
    started = clock.time()
    with pytest.raises(StoreUnavailableError):
        await hasty.list_messages(name)
    with pytest.raises(StoreUnavailableError):
        await hasty.append(name, messages(run_id, [2]), writer=Writer(run_id, 1))
    with pytest.raises(StoreUnavailableError):
        await hasty.remove(name, cursors[0])
    with pytest.raises(StoreUnavailableError):
        await hasty.delete(name)
    assert clock.time() - started < 4 * 2
    server.faults.clear()
    assert await store.delete(name) == 0
    assert server.keeping.items_of(name) == []


async def test_a_wrong_key_is_an_error_of_the_set_up(server: OpenAIServer) -> None:
    """It says which setting to change, and does not show the key."""
    async with server.client(api_key="sk-wrong") as client:
        store = OpenAIConversationStore(client, MemoryConversationStore(MemoryNotifications()))
        with pytest.raises(ConfigurationError, match="OPENAI_API_KEY") as caught:
            await store.append(conversation_name(), [imported("hi")])
    assert "sk-wrong" not in str(caught.value)


async def test_a_conversation_that_somebody_deleted_there_goes_on_in_another(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """What was in it is lost and said to be; what is written from then on is there."""
    name = conversation_name()
    await store.append(name, [imported("lost")])
    place = await store.provider_conversation(name)
    assert place is not None
    server.keeping.delete(place)
    assert await store.list_messages(name) == []
    await store.append(name, [imported("new")])
    assert await store.provider_conversation(name) not in {None, place}
    assert texts(await store.list_messages(name)) == ["new"]
    assert await store.delete(name) == 2
    assert server.keeping.items_of(name) == []


async def test_a_limit_counts_what_can_be_read(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """Where contents are lost at the provider, older messages fill the window."""
    name = conversation_name()
    stored = []
    for number in range(6):
        stored += await store.append(name, [imported(str(number))])
    place = await store.provider_conversation(name)
    assert place is not None
    items = server.keeping.conversations[place].items
    for item_id in list(items)[3:5]:
        del items[item_id]
    assert texts(await store.list_messages(name, limit=3)) == ["1", "2", "5"]
    assert texts(await store.list_messages(name, limit=2, after=stored[1])) == ["2", "5"]
    assert texts(await store.list_messages(name, limit=1, before=stored[5])) == ["2"]
    claim = await store.claim(name, Writer(run_name(), 1), limit=10)
    assert texts(claim.earlier) == ["0", "1", "2", "5"]


async def test_own_messages_that_are_lost_are_counted(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """A run must not go on without them: what they say would be done once more."""
    name, run_id = conversation_name(), run_name()
    await store.append(name, messages(run_id, range(3)), writer=Writer(run_id, 1))
    items = server.keeping.items_of(name)
    del server.keeping.conversations[(await store.provider_conversation(name)) or ""].items[
        items[1]["id"]
    ]
    claim = await store.claim(name, Writer(run_id, 2), limit=5)
    assert [each.position for each in claim.own] == [0, 2]
    assert (claim.unreadable, claim.next_position) == (1, 3)


async def test_who_reads_while_messages_are_removed_sees_all_or_none(
    store: OpenAIConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index forgets them in one step, the provider one by one: here, between two reads."""
    name, run_id = conversation_name(), run_name()
    writer = Writer(run_id, 1)
    await store.append(name, messages(run_id, range(5)), writer=writer)
    items = await store._api.list_all(place := await store.provider_conversation(name) or "")
    assert items is not None
    list_items = store._api.list_items

    async def remove_meanwhile(place: str, *, after: str | None = None) -> ItemPage | None:
        monkeypatch.setattr(store._api, "list_items", list_items)
        await store._index.retract(name, writer)
        await store._api.delete_items(place, [items[2]["id"]])
        return await list_items(place, after=after)

    monkeypatch.setattr(store._api, "list_items", remove_meanwhile)
    assert await store.list_messages(name) == []
    assert len(await store._api.list_all(place) or ()) == 4, "the removal was under way"


async def test_a_message_that_the_provider_refuses_is_kept_here(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """An image that it does not take costs the others of its batch nothing."""
    name = conversation_name()
    odd = Message(id="odd", role=Role.USER, content=(MediaPart(media_type="image/x", url="ftp:x"),))
    given = [imported("a"), odd, imported("b")]
    await store.append(name, given)
    stored = await store.list_messages(name)
    assert [each.model_copy(update={"cursor": None}) for each in stored] == given
    assert len(server.keeping.items_of(name)) == 2


async def test_what_is_not_for_the_provider_never_gets_there(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """Notes about failed runs, and the histories of runs that are alone."""
    name, run_id = conversation_name(), run_name()
    note = imported("it failed").model_copy(update={"kind": MessageKind.ERROR})
    await store.append(name, [note])
    await store.append(f"~{run_id}", messages(run_id, [0]), writer=Writer(run_id, 1))
    assert server.faults.requests == []
    assert texts(await store.list_messages(name)) == ["it failed"]
    assert len(await store.list_messages(f"~{run_id}")) == 1


async def test_a_conversation_that_the_provider_would_keep_is_not_left_to_expire(
    store: OpenAIConversationStore,
) -> None:
    """There is no time to live there; who asks for one is told to delete it."""
    with pytest.raises(RequestError, match="Delete it"):
        await store.expire(conversation_name(), 60)


async def test_a_repeated_append_asks_nothing_of_the_provider(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """What is stored is not sent once more, however much of a batch that is."""
    name, run_id = conversation_name(), run_name()
    await store.append(name, messages(run_id, range(3)), writer=Writer(run_id, 1))
    server.faults.clear()
    await store.append(name, messages(run_id, range(3)), writer=Writer(run_id, 1))
    assert server.faults.requests == []
    await store.append(name, messages(run_id, range(4)), writer=Writer(run_id, 1))
    assert server.faults.requests == ["POST items"]
    assert len(server.keeping.items_of(name)) == 4


async def test_repetitions_that_race_each_other_leave_nothing(
    server: OpenAIServer, store: OpenAIConversationStore
) -> None:
    """Each made items of its own; those that no entry names are removed by who made them."""
    name, run_id = conversation_name(), run_name()
    batch = messages(run_id, range(3))
    await asyncio.gather(*(store.append(name, batch, writer=Writer(run_id, 1)) for _ in range(10)))
    assert server.faults.count("POST items") > 1, "there was no race"
    assert len(server.keeping.items_of(name)) == 3
    made_for_it = [
        kept for kept in server.keeping.conversations.values() if name in kept.metadata.values()
    ]
    assert len(made_for_it) == 1


async def test_nothing_is_removed_while_an_entry_cannot_be_read(
    server: OpenAIServer, store: OpenAIConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may name what looks as if nobody named it; a newer process will know."""
    name, newer = conversation_name(), FORMAT_VERSION + 1
    await store.append(name, [imported("for newer").model_copy(update={"version": newer})])
    await store._upkeep.note(name, removes=True)
    monkeypatch.setattr(openai_upkeep, "ABANDONED_S", 0.0)
    await store.claim(name, Writer(run_name(), 1), limit=0)
    assert len(server.keeping.items_of(name)) == 1


async def test_the_index_may_be_encrypted(server: OpenAIServer, client: AsyncOpenAI) -> None:
    """What is at the provider is readable there; what is here is not without the key."""
    below = MemoryConversationStore(MemoryNotifications())
    keys = KeyRing.parse(f"a:{os.urandom(32).hex()}")
    store = OpenAIConversationStore(client, EncryptedConversations(below, keys))
    name, run_id = conversation_name(), run_name()
    given = [each.model_copy(update={"metadata": {"k": "v"}}) for each in messages(run_id, [0, 1])]
    await store.append(name, given, writer=Writer(run_id, 1))
    await store.append(name, given, writer=Writer(run_id, 1))
    assert [each.metadata for each in await store.list_messages(name)] == [{"k": "v"}] * 2
    assert len(server.keeping.items_of(name)) == 2
    stored = await below.list_messages(name)
    assert all(each.sealed and each.sealed.layers[0] == LAYER for each in stored)
    assert await store.delete(name) == 2
    assert server.keeping.items_of(name) == []
