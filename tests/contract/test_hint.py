"""Hints that bring messages along say what a look would find, or that one is needed."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest

from shared.backend import Backend
from shared.conversation.hint import telling
from shared.conversation.protocol import ConversationStore, Writer
from shared.conversation.redis import HINT_BYTES, RedisConversationStore
from shared.errors import SealKeyError
from shared.message import Message
from shared.notification.listener import Listener
from shared.testing.conversation.value import (
    conversation_name,
    imported,
    message,
    messages,
    run_name,
    texts,
)
from tests.contract.harness import SEALED, ClusterHarness, RedisHarness
from tests.services import RedisServer
from tests.topologies.cluster import RedisCluster

pytestmark = pytest.mark.integration

RUN, OTHER = run_name(), run_name()


@pytest.fixture(params=[{}, SEALED], ids=["plain", "sealed"])
async def backend(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> AsyncIterator[Backend]:
    harness = RedisHarness(redis_server.url, f"test-{uuid4().hex}", always=request.param)
    backend = harness.open()
    yield backend
    await harness.aclose()


class Place:
    """Somebody who has seen all messages of `RUN` up to a cursor, and hears hints."""

    def __init__(self, store: ConversationStore, name: str, listener: Listener) -> None:
        self.store, self.name, self._listener = store, name, listener
        listener.take()
        self.cursor: str | None = None
        self.position = 0

    async def hear(self) -> tuple[str, ...]:
        """All hints so far: one that was published behind them, elsewhere, has come."""
        mark = conversation_name()
        async with self.store.notifications.subscribe(self.store.topic(mark)) as marked:
            marked.poll()
            await self.store.append(mark, [imported("mark")])
            assert await marked.wait(10)
        heard = self._listener.take()
        assert heard is not None
        return heard

    def told(self, hints: Sequence[str]) -> list[Message] | None:
        store = telling(self.store)
        assert store is not None
        return store.told(self.name, hints, run_id=RUN, after=self.cursor, position=self.position)

    async def look(self) -> list[Message]:
        """What is there behind the cursor."""
        return await self.store.list_messages(self.name, after=self.cursor, run_id=RUN)

    def move(self, seen: Sequence[Message]) -> None:
        if seen:
            self.cursor, self.position = seen[-1].cursor, seen[-1].position + 1


@pytest.fixture
async def place(backend: Backend) -> AsyncIterator[Place]:
    store, name = backend.conversations, conversation_name()
    async with store.notifications.subscribe(store.topic(name)) as listener:
        assert isinstance(listener, Listener)
        yield Place(store, name, listener)


async def test_a_hint_says_what_a_look_would_find(place: Place) -> None:
    """Each message of the run, whole and with its cursor; one after the other or together."""
    writer = Writer(RUN, 1)
    for position in (0, 1):
        await place.store.append(place.name, messages(RUN, [position]), writer=writer)
        told = place.told(await place.hear())
        assert told == await place.look()
        assert told is not None
        assert texts(told) == [f"{RUN}.{position}"]
        place.move(told)
    for position in (2, 3, 4):
        await place.store.append(place.name, messages(RUN, [position]), writer=writer)
    told = place.told(await place.hear())
    assert told is not None
    assert len(told) == 3
    assert told == await place.look()


async def test_what_was_seen_is_not_told_again(place: Place) -> None:
    """A look came before the hint."""
    writer = Writer(RUN, 1)
    for position in (0, 1, 2):
        await place.store.append(place.name, messages(RUN, [position]), writer=writer)
    place.move((await place.look())[:2])
    hints = await place.hear()
    assert texts(place.told(hints) or ()) == [f"{RUN}.2"]
    place.move(await place.look())
    assert place.told(hints) == []


async def test_where_a_hint_is_missing_a_look_is_asked_for(place: Place) -> None:
    writer = Writer(RUN, 1)
    for position in (0, 1, 2):
        await place.store.append(place.name, messages(RUN, [position]), writer=writer)
    hints = await place.hear()
    for without in (hints[1:], [hints[0], hints[2]]):
        assert place.told(without) is None


async def append_two(store: ConversationStore, name: str) -> None:
    await store.append(name, messages(RUN, [1, 2]), writer=Writer(RUN, 1))


async def append_long(store: ConversationStore, name: str) -> None:
    text = random.Random(1).randbytes(HINT_BYTES).hex()
    await store.append(name, [message(RUN, 1, text)], writer=Writer(RUN, 1))


async def retract(store: ConversationStore, name: str) -> None:
    await store.retract(name, Writer(RUN, 1))


async def clear(store: ConversationStore, name: str) -> None:
    await store.clear(name)


async def append_imported(store: ConversationStore, name: str) -> None:
    await store.append(name, [imported("x")])


@pytest.mark.parametrize("change", [append_two, append_long, retract, clear, append_imported])
async def test_other_changes_ask_for_a_look(
    place: Place, change: Callable[[ConversationStore, str], Awaitable[None]]
) -> None:
    """Also where messages that could be told come before or behind it."""
    await place.store.append(place.name, messages(RUN, [0]), writer=Writer(RUN, 1))
    place.move(place.told(await place.hear()) or ())
    await change(place.store, place.name)
    hints = await place.hear()
    assert place.told(hints) is None
    claim = await place.store.claim(place.name, Writer(RUN, 2), limit=0)
    more = messages(RUN, [claim.next_position])
    await place.store.append(place.name, more, writer=Writer(RUN, 2))
    assert place.told(hints + await place.hear()) is None


async def test_another_run_is_passed_over(place: Place) -> None:
    await place.store.append(place.name, messages(RUN, [0]), writer=Writer(RUN, 1))
    await place.store.append(place.name, messages(OTHER, [0]), writer=Writer(OTHER, 2))
    await place.store.append(place.name, messages(RUN, [1]), writer=Writer(RUN, 3))
    hints = await place.hear()
    assert texts(place.told(hints) or ()) == [f"{RUN}.0", f"{RUN}.1"]
    assert place.told(hints[1:2]) == []


@pytest.mark.parametrize("hint", ["", "x", "1-1 {", '1-1 {"role":"user"}', " ", "1 {}"])
async def test_what_makes_no_sense_asks_for_a_look(place: Place, hint: str) -> None:
    """Somebody else published it, or another version."""
    assert place.told([hint]) is None


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_a_hint_is_as_good_as_a_look(place: Place, seed: int) -> None:
    """Random changes, heard of one by one or several at once."""
    dice = random.Random(seed)
    store, name = place.store, place.name
    token, position, told_how_often = 1, 0, 0
    for _ in range(60):
        for _ in range(dice.randint(1, 4)):
            kind = dice.choices(
                ["append", "append two", "other", "import", "retract", "clear"],
                weights=[20, 2, 2, 1, 1, 1],
            )[0]
            if kind.startswith("append"):
                count = 2 if kind == "append two" else 1
                own = messages(RUN, range(position, position + count))
                await store.append(name, own, writer=Writer(RUN, token))
                position += count
            elif kind == "import":
                await store.append(name, [imported("x")])
            elif kind == "other":
                token += 2
                other = run_name()
                await store.append(name, messages(other, [0]), writer=Writer(other, token - 1))
                position = (await store.claim(name, Writer(RUN, token), limit=0)).next_position
            elif kind == "retract":
                await store.retract(name, Writer(RUN, token))
                token, position = token + 1, 0
            else:
                await store.clear(name)
        told = place.told(await place.hear())
        found = await place.look()
        assert told is None or told == found
        told_how_often += told is not None
        place.move(found)
    assert told_how_often > 10


async def test_who_has_no_keys_is_told_so_by_a_look(redis_server: RedisServer) -> None:
    """A hint that cannot be opened raises nothing: it is the store that is asked then."""
    harness = RedisHarness(redis_server.url, f"test-{uuid4().hex}")
    store, name = harness.open(**SEALED).conversations, conversation_name()
    async with store.notifications.subscribe(store.topic(name)) as listener:
        assert isinstance(listener, Listener)
        place = Place(store, name, listener)
        await store.append(name, messages(RUN, [0]), writer=Writer(RUN, 1))
        hints = await place.hear()
    assert len(place.told(hints) or ()) == 1
    place.store = harness.open().conversations
    assert place.told(hints) is None
    with pytest.raises(SealKeyError):
        await place.look()
    await harness.aclose()


def test_a_store_that_merely_forwards_does_not_tell(backend: Backend) -> None:
    """It may change what it hands out. Nor does a subclass that says so."""

    class Forwarding:
        def __getattr__(self, name: str) -> object:
            return getattr(backend.conversations, name)

    class Silent(RedisConversationStore):
        told = None  # type: ignore[assignment]  # as documented

    stores: list[Any] = [Forwarding(), Silent.__new__(Silent)]
    assert [telling(store) for store in stores] == [None, None]
    assert telling(backend.conversations) is not None


async def test_nothing_rides_along_in_a_cluster(redis_cluster: RedisCluster) -> None:
    """Its nodes pass hints on to each other, and nobody is told of one that is lost."""
    harness = ClusterHarness(redis_cluster.url, key_prefix=f"test-{uuid4().hex}")
    store, name = harness.open().conversations, conversation_name()
    async with store.notifications.listen(store.topic(name)) as hints:
        cursors = await store.append(name, messages(RUN, [0]), writer=Writer(RUN, 1))
        while not (hint := await anext(hints)):
            pass
        assert [hint] == cursors
    await harness.aclose()
