"""Conversations at OpenAI, interrupted anywhere: what readers see, and what is left there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import pytest
from openai import AsyncOpenAI

from shared.conversation import openai_upkeep
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.openai import OpenAIConversationStore
from shared.conversation.openai_items import reference_of
from shared.conversation.protocol import ConversationStore, Writer
from shared.conversation.register import hidden_history
from shared.errors import FencedError, PositionGapError, StoreUnavailableError
from shared.message import Message, Role, ToolCall
from shared.notification.memory import MemoryNotifications
from shared.testing.conversation.value import conversation_name, imported, message, run_name, texts
from tests.openai_server.fault import Fault
from tests.openai_server.server import OpenAIServer

RUN = run_name()
OLD, NEW = Writer(RUN, 5), Writer(RUN, 9)
Step = Callable[[OpenAIConversationStore, str], Awaitable[object]]


class CrashError(BaseException):
    """The process ends here; nothing that it would do afterwards happens."""


@dataclass
class Steps:
    """Interrupts the given step, before it is taken or after it."""

    at: int = 0
    is_after: bool = False
    error: type[BaseException] = CrashError

    def __post_init__(self) -> None:
        self.taken = 0
        self.has_struck = False

    def watch(self, target: Any) -> Any:
        return _Watched(target, self)

    async def take(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.taken += 1
        strikes = self.taken == self.at
        if strikes and not self.is_after:
            self._strike()
        answer = await call()
        if strikes:
            self._strike()
        return answer

    def _strike(self) -> None:
        self.has_struck = True
        raise self.error("interrupted")


class _Watched:
    """An index, or the provider's API: each call of it is a step."""

    def __init__(self, target: Any, steps: Steps) -> None:
        self._target = target
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not asyncio.iscoroutinefunction(value):
            return value

        async def step(*args: Any, **kwargs: Any) -> Any:
            return await self._steps.take(partial(value, *args, **kwargs))

        return step


class Stage:
    """A server, an index, and stores over the two, each as a process of its own."""

    def __init__(self, server: OpenAIServer, client: AsyncOpenAI) -> None:
        self.server = server
        self.client = client
        self.index = MemoryConversationStore(MemoryNotifications())
        self.name = conversation_name()

    def another(self) -> "Stage":
        return Stage(self.server, self.client)

    def open(
        self, steps: Steps | None = None, *, timeout_s: float = 5.0
    ) -> OpenAIConversationStore:
        store = OpenAIConversationStore(self.client, self.index, call_timeout_s=timeout_s)
        if steps is not None:
            store._index = store._upkeep._index = steps.watch(self.index)
            store._api = store._upkeep._api = steps.watch(store._api)
        return store

    async def check_nothing_is_left(self) -> None:
        """Each item at the provider is named by an entry, and each name has its item."""
        named = set()
        for entry in await self.index.list_messages(self.name):
            reference = reference_of(entry)
            named |= set(reference.items if reference is not None else ())
        there = {item["id"] for item in self.server.keeping.items_of(self.name)}
        assert there == named
        notes = await self.index.list_messages(hidden_history("openai", self.name))
        assert [note for note in notes if note.run_id is None] == []


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
async def stage(server: OpenAIServer) -> AsyncIterator[Stage]:
    server.faults.clear()
    async with server.client() as client:
        yield Stage(server, client)


def exchange(positions: Sequence[int]) -> list[Message]:
    """Messages of the run; each answer calls tools, so that it becomes several items."""
    made = []
    for position in positions:
        own = message(RUN, position, f"text {position}")
        if position % 2:
            calls = tuple(ToolCall(id=f"c{n}", name="look", arguments="{}") for n in range(3))
            own = own.model_copy(update={"role": Role.ASSISTANT, "tool_calls": calls})
        made.append(own)
    return made


async def prepare(stage: Stage) -> None:
    """A conversation of an import, and of a run that has written."""
    store = stage.open()
    await store.append(stage.name, [imported("before")])
    await store.append(stage.name, exchange([0, 1]), writer=OLD)


async def append(store: OpenAIConversationStore, name: str) -> object:
    return await store.append(name, exchange([2, 3]), writer=OLD)


async def bring_in(store: OpenAIConversationStore, name: str) -> object:
    return await store.append(name, [imported("new a"), imported("new b")])


async def retract(store: OpenAIConversationStore, name: str) -> object:
    return await store.retract(name, OLD)


async def clear(store: OpenAIConversationStore, name: str) -> object:
    return await store.clear(name)


async def delete(store: OpenAIConversationStore, name: str) -> object:
    return await store.delete(name)


async def remove(store: OpenAIConversationStore, name: str) -> object:
    newest = await store.list_messages(name, limit=1)
    return await store.remove(name, newest[0].cursor or "") if newest else None


BEFORE = ["before", "text 0", "text 1"]
STEPS: dict[str, tuple[Step, Sequence[list[str]]]] = {
    "append": (append, [BEFORE, [*BEFORE, "text 2", "text 3"]]),
    "import": (bring_in, [BEFORE, [*BEFORE, "new a", "new b"]]),
    "retract": (retract, [BEFORE, BEFORE[:1]]),
    "clear": (clear, [BEFORE, []]),
    "remove": (remove, [BEFORE, BEFORE[:2]]),
    "delete": (delete, [BEFORE, []]),
}
"""What is interrupted, and what may be there afterwards: the state before it, or after it."""


@pytest.mark.parametrize("error", [CrashError, StoreUnavailableError])
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", STEPS)
async def test_interrupted_at_any_step_it_has_happened_or_not(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    is_after: bool,
    error: type[BaseException],
) -> None:
    """Whatever the step, readers see all of it or nothing, and the next claim tidies up."""
    step, outcomes = STEPS[name]
    for at in count(1):
        stage = stage.another()
        await prepare(stage)
        steps = Steps(at=at, is_after=is_after, error=error)
        interrupted = stage.open(steps)
        with suppress(error):
            await step(interrupted, stage.name)
        if not steps.has_struck:
            assert at > 5, "so few steps interrupt nothing"
            break
        later = stage.open()
        assert texts(await later.list_messages(stage.name)) in outcomes, f"step {at}"
        with monkeypatch.context() as patch:
            # Imports and removals have no token to tell that they are over; only time does.
            patch.setattr(openai_upkeep, "ABANDONED_S", 0.0)
            await later.claim(stage.name, NEW, limit=10)
        assert texts(await later.list_messages(stage.name)) in outcomes, f"step {at}"
        await stage.check_nothing_is_left()


# An import has no position, so a repetition of it is another import; and the newest message is
# another one after the first removal.
@pytest.mark.parametrize("name", ["append", "retract", "clear", "delete"])
async def test_repeated_after_an_interruption_it_is_done_once(stage: Stage, name: str) -> None:
    """The call that failed is made again, by the same process or another one; nothing doubles."""
    step, outcomes = STEPS[name]
    for at in count(1):
        stage = stage.another()
        await prepare(stage)
        steps = Steps(at=at, is_after=True, error=StoreUnavailableError)
        store = stage.open(steps)
        try:
            await step(store, stage.name)
        except StoreUnavailableError:
            await step(store, stage.name)
        if not steps.has_struck:
            break
        assert texts(await store.list_messages(stage.name)) == outcomes[1], f"step {at}"


async def test_a_deletion_that_is_repeated_leaves_nothing_at_the_provider(stage: Stage) -> None:
    """Wherever it was interrupted, and although no claim ever follows."""
    for at in count(1):
        stage = stage.another()
        await prepare(stage)
        steps = Steps(at=at, is_after=at % 2 == 0, error=CrashError)
        try:
            await stage.open(steps).delete(stage.name)
        except CrashError:
            await stage.open().delete(stage.name)
        if not steps.has_struck:
            break
        assert stage.server.keeping.items_of(stage.name) == []
        kept = [each.metadata for each in stage.server.keeping.conversations.values()]
        assert not [metadata for metadata in kept if stage.name in metadata.values()]
    assert stage.server.keeping.orphans == [], "the provider keeps items of deleted conversations"


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("skip", [0, 1], ids=["first batch", "second batch"])
async def test_a_write_that_the_provider_fails_is_repeated(
    stage: Stage, fault: Fault, skip: int
) -> None:
    """Too many requests, a fault, a lost answer: an error in time, and nothing twice."""
    store = stage.open()
    await prepare(stage)
    stage.server.faults.plan("POST items", fault, skip=skip)
    batch = [message(RUN, position, f"text {position}") for position in range(2, 30)]
    started = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailableError):
        await stage.open(timeout_s=1).append(stage.name, batch, writer=OLD)
    assert asyncio.get_running_loop().time() - started < 4
    assert texts(await store.list_messages(stage.name)) == BEFORE
    cursors = await store.append(stage.name, batch, writer=OLD)
    assert await store.append(stage.name, batch, writer=OLD) == cursors
    claim = await store.claim(stage.name, NEW, limit=10)
    assert [each.position for each in claim.own] == list(range(30))
    await stage.check_nothing_is_left()


async def test_a_zombies_items_do_not_stay(stage: Stage) -> None:
    """It made items, was frozen, and comes back after another one has claimed and gone on."""
    await prepare(stage)
    gate = Gate(stage.index)
    zombie = stage.open()
    zombie._index = zombie._upkeep._index = gate.watched
    writing = asyncio.create_task(append(zombie, stage.name))
    await gate.reached.wait()
    later = stage.open()
    claim = await later.claim(stage.name, NEW, limit=10)
    await later.append(stage.name, exchange([claim.next_position]), writer=NEW)
    gate.open.set()
    with pytest.raises(FencedError):
        await writing
    assert texts(await later.list_messages(stage.name)) == [*BEFORE, "text 2"]
    await stage.check_nothing_is_left()


async def test_an_append_that_is_refused_takes_its_items_back(stage: Stage) -> None:
    """By the index: another one has the conversation, or a message of the run is missing."""
    await prepare(stage)
    store = stage.open()
    await store.claim(stage.name, NEW, limit=1)
    with pytest.raises(FencedError):
        await append(store, stage.name)
    with pytest.raises(PositionGapError):
        await store.append(stage.name, exchange([7]), writer=NEW)
    await stage.check_nothing_is_left()


async def test_the_providers_library_repeats_nothing_by_itself(stage: Stage) -> None:
    """It cannot know that the first call was carried out, and would make the items once more."""
    await prepare(stage)
    stage.server.faults.clear()
    stage.server.faults.plan("POST items", Fault.OVERLOADED)
    with pytest.raises(StoreUnavailableError):
        await append(stage.open(timeout_s=5), stage.name)
    assert stage.server.faults.count("POST items") == 1


@pytest.mark.parametrize("patience_s", [0.0, 5.0])
async def test_an_import_while_the_conversation_is_deleted_is_readable(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """Its items were made before the deletion, its entries are written afterwards."""
    monkeypatch.setattr(openai_upkeep, "PATIENCE_S", patience_s)
    await prepare(stage)
    gate = Gate(stage.index)
    slow = stage.open()
    slow._index = slow._upkeep._index = gate.watched
    importing = asyncio.create_task(bring_in(slow, stage.name))
    await gate.reached.wait()
    deleting = asyncio.create_task(stage.open().delete(stage.name))
    if not patience_s:
        assert await deleting == 3
    gate.open.set()
    cursors = await importing
    assert await deleting == 3
    stored = await stage.open().list_messages(stage.name)
    assert texts(stored) == ["new a", "new b"]
    assert [each.cursor for each in stored] == cursors
    await stage.open().claim(stage.name, NEW, limit=1)
    await stage.check_nothing_is_left()


async def test_an_import_that_slept_while_its_items_were_removed_is_readable(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim took it for dead after minutes; it comes back and makes its items anew."""
    await prepare(stage)
    gate = Gate(stage.index)
    slow = stage.open()
    slow._index = slow._upkeep._index = gate.watched
    importing = asyncio.create_task(bring_in(slow, stage.name))
    await gate.reached.wait()
    with monkeypatch.context() as patch:
        patch.setattr(openai_upkeep, "ABANDONED_S", 0.0)
        await stage.open().claim(stage.name, NEW, limit=1)
    gate.open.set()
    await importing
    assert texts(await stage.open().list_messages(stage.name)) == [*BEFORE, "new a", "new b"]
    await stage.check_nothing_is_left()


async def test_a_claim_leaves_the_items_of_an_import_alone(stage: Stage) -> None:
    """They are named by nobody yet, and there is something of a dead writer to tidy up, too."""
    await prepare(stage)
    with pytest.raises(CrashError):
        await append(stage.open(Steps(at=5)), stage.name)
    gate = Gate(stage.index)
    slow = stage.open()
    slow._index = slow._upkeep._index = gate.watched
    importing = asyncio.create_task(bring_in(slow, stage.name))
    await gate.reached.wait()
    await stage.open().claim(stage.name, NEW, limit=1)
    gate.open.set()
    await importing
    assert texts(await stage.open().list_messages(stage.name)) == [*BEFORE, "new a", "new b"]
    await stage.open().claim(stage.name, Writer(RUN, 10), limit=1)
    await stage.check_nothing_is_left()


@pytest.mark.parametrize("error", [CrashError, StoreUnavailableError])
async def test_tidying_up_that_is_interrupted_is_done_by_the_next_claim(
    stage: Stage, error: type[BaseException]
) -> None:
    """At any step of it."""
    for at in count(1):
        stage = stage.another()
        await prepare(stage)
        with pytest.raises(CrashError):
            await append(stage.open(Steps(at=5)), stage.name)
        steps = Steps(at=at, is_after=at % 2 == 0, error=error)
        with suppress(error):
            await stage.open(steps).claim(stage.name, NEW, limit=1)
        if not steps.has_struck:
            assert at > 10, "nothing was tidied up"
            break
        await stage.open().claim(stage.name, Writer(RUN, 10), limit=1)
        assert texts(await stage.open().list_messages(stage.name)) == BEFORE
        await stage.check_nothing_is_left()


async def test_what_is_added_while_somebody_tidies_up_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole import, between any two steps of it."""
    for at in count(1):
        stage = stage.another()
        await prepare(stage)
        with pytest.raises(CrashError):
            await append(stage.open(Steps(at=5)), stage.name)
        tidying, other = stage.open(), stage.open()
        steps = Between(at, partial(bring_in, other, stage.name))
        tidying._index = tidying._upkeep._index = steps.watch(stage.index)
        tidying._api = tidying._upkeep._api = steps.watch(tidying._api)
        await tidying.claim(stage.name, NEW, limit=1)
        if not steps.has_struck:
            assert at > 5, "nothing was tidied up"
            break
        stored = await other.list_messages(stage.name)
        assert texts(stored) == [*BEFORE, "new a", "new b"], f"step {at}"
        await other.claim(stage.name, Writer(RUN, 10), limit=1)
        await stage.check_nothing_is_left()


class Between(Steps):
    """Lets something happen before the given step, instead of interrupting it."""

    def __init__(self, at: int, happen: Callable[[], Awaitable[object]]) -> None:
        super().__init__(at=at)
        self._happen = happen

    async def take(self, call: Callable[[], Awaitable[Any]]) -> Any:
        self.taken += 1
        if self.taken == self.at:
            self.has_struck = True
            await self._happen()
        return await call()


class Gate:
    """Holds the next append of messages to an index until it is opened."""

    def __init__(self, index: ConversationStore) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        gate = self

        class Watched:
            def __getattr__(self, name: str) -> Any:
                return getattr(index, name)

            async def append(self, conversation_id: str, *args: Any, **kwargs: Any) -> list[str]:
                if not conversation_id.startswith("~") and not gate.open.is_set():
                    gate.reached.set()
                    await gate.open.wait()
                return await index.append(conversation_id, *args, **kwargs)

        self.watched: Any = Watched()
