"""Sessions of the OpenAI Agents SDK over conversations, from any loop and thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from agents.items import TResponseInputItem
from agents.memory import Session, SessionSettings
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from agent_client import AgentClient, AsyncAgentClient, Settings
from agent_client.interop.home import OwnHome
from agent_client.interop.openai_agents import ConversationSession, SessionHome
from shared.backend import Backend
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import ConversationStore, Writer
from shared.errors import (
    ConfigurationError,
    InvalidIdError,
    RequestError,
    StoreUnavailableError,
    UnstorableError,
)
from shared.identifier import new_run_id
from shared.message import Draft, Message, MessageKind, Role, ToolCall, tool_result_draft
from shared.notification.memory import MemoryNotifications
from shared.testing.waiting import eventually


def items(*contents: str) -> list[TResponseInputItem]:
    return [cast(TResponseInputItem, {"role": "user", "content": text}) for text in contents]


def parallel() -> list[TResponseInputItem]:
    """An answer of four items, with its results."""
    raw: list[dict[str, Any]] = [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "assistant", "content": "let me see"},
        {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "b", "output": "2"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
    ]
    return cast(list[TResponseInputItem], raw)


@pytest.fixture
def store() -> MemoryConversationStore:
    return MemoryConversationStore(MemoryNotifications())


@pytest.fixture
def name() -> str:
    return f"web:{uuid4().hex}"


@pytest.fixture
def session(name: str, store: ConversationStore) -> ConversationSession:
    return ConversationSession(name, store)


async def test_a_session_is_what_the_sdk_asks_for(session: ConversationSession, name: str) -> None:
    """Its protocol, its names."""
    assert isinstance(session, Session)
    assert session.session_id == name
    assert session.session_settings == SessionSettings(limit=None)


async def test_items_come_back_in_order(session: ConversationSession) -> None:
    """All of them, or the newest; none of them twice."""
    given = [*items("a", "b"), *parallel(), *items("c")]
    await session.add_items(given[:2])
    await session.add_items(given[2:])
    assert await session.get_items() == given
    for limit in range(len(given) + 3):
        assert await session.get_items(limit) == (given[-limit:] if limit else [])
    assert await session.get_items(-1) == []


async def test_the_settings_say_how_many_items_are_read(
    name: str, store: ConversationStore
) -> None:
    """Unless the call says it; a dictionary will do, with the names that there are."""
    for given in ({"limit": 2}, SessionSettings(limit=2)):
        session = ConversationSession(name, store, session_settings=given)
        await session.clear_session()
        await session.add_items(items("a", "b", "c"))
        assert await session.get_items() == items("b", "c")
        assert await session.get_items(1) == items("c")
        assert await session.get_items(9) == items("a", "b", "c")
    with pytest.raises(TypeError, match="limitt"):
        ConversationSession(name, store, session_settings={"limitt": 2})
    with pytest.raises(TypeError):
        ConversationSession(name, store, session_settings=cast(Any, 2))


async def test_items_are_taken_back_one_by_one(session: ConversationSession) -> None:
    """The newest first, also those that share a message, until there is none."""
    given = [*items("a"), *parallel()]
    await session.add_items(given)
    while given:
        assert await session.pop_item() == given.pop()
        assert await session.get_items() == given
    assert await session.pop_item() is None


async def test_of_several_who_take_back_each_gets_another_item(
    session: ConversationSession,
) -> None:
    """Twenty at once, over ten items."""
    await session.add_items(items(*map(str, range(10))))
    popped = await asyncio.gather(*(session.pop_item() for _ in range(20)))
    texts = [cast(Any, item)["content"] for item in popped if item is not None]
    assert sorted(texts) == [str(number) for number in range(10)]
    assert await session.get_items() == []


async def test_sessions_are_apart_and_can_be_cleared(name: str, store: ConversationStore) -> None:
    """Clearing and taking back concern one session."""
    one, other = ConversationSession(name, store), ConversationSession(f"{name}:2", store)
    await one.add_items(items("a"))
    await other.add_items(items("b"))
    await one.clear_session()
    assert (await one.get_items(), await one.pop_item()) == ([], None)
    assert await other.get_items() == items("b")


async def test_what_cannot_be_stored_stores_nothing(session: ConversationSession) -> None:
    """One item that is no JSON, and none of the batch is there; the session goes on."""
    bad = cast(TResponseInputItem, {"role": "user", "content": object()})
    with pytest.raises(UnstorableError):
        await session.add_items([*items("a"), bad])
    await session.add_items([])
    assert await session.get_items() == []
    await session.add_items(items("b"))
    assert await session.get_items() == items("b")


def test_an_id_that_no_conversation_can_have_is_refused(store: ConversationStore) -> None:
    """When the session is built, with what to change."""
    for bad in ("", "a/b", "../x", "user 1"):
        with pytest.raises(InvalidIdError, match="session id"):
            ConversationSession(bad, store)


async def test_people_see_what_the_sdk_stored(
    session: ConversationSession, store: ConversationStore, name: str
) -> None:
    """Roles, texts, calls and results of the conversation, as if a run had written them."""
    await session.add_items([*items("hi"), *parallel()])
    asked, answer, second, first = await store.list_messages(name)
    assert (asked.role, asked.text) == (Role.USER, "hi")
    assert (answer.kind, answer.text) == (MessageKind.TOOL_CALL, "let me see")
    assert [call.id for call in answer.tool_calls] == ["a", "b"]
    assert [(each.role, each.text) for each in (second, first)] == [
        (Role.TOOL, "2"),
        (Role.TOOL, "1"),
    ]


async def test_the_sdk_sees_what_a_run_wrote(
    session: ConversationSession, store: ConversationStore, name: str
) -> None:
    """Notes about failed runs apart, which stay when the last item is taken back."""
    run_id = new_run_id(0)
    call = ToolCall(id="c", name="look", arguments="{}")
    drafts = [
        Draft(role=Role.USER, content="hi"),
        Draft(role=Role.ASSISTANT, content="let me see", tool_calls=(call, call)),
        tool_result_draft(call, "1"),
        tool_result_draft(call, "2"),
        Draft(role=Role.ASSISTANT, kind=MessageKind.ERROR, content="it failed"),
    ]
    written = [
        Message.from_draft(draft, run_id=run_id, position=place)
        for place, draft in enumerate(drafts)
    ]
    await store.append(name, written, writer=Writer(run_id, 1))
    read = cast(list[dict[str, Any]], await session.get_items())
    assert [item.get("type", item.get("role")) for item in read] == [
        "user",
        "assistant",
        "function_call",
        "function_call",
        "function_call_output",
        "function_call_output",
    ]
    assert [item["call_id"] for item in read[2:]] == ["c", "c-2", "c", "c-2"]
    assert cast(Any, await session.pop_item())["output"] == "2"
    assert cast(Any, await session.pop_item())["output"] == "1"
    assert cast(Any, await session.pop_item())["type"] == "function_call"
    assert len(await session.get_items()) == 3
    assert [each.kind for each in await store.list_messages(name)].count(MessageKind.ERROR) == 1


async def test_an_error_of_the_store_reaches_the_caller(
    name: str, store: ConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is, from whichever loop."""

    async def fail(*_: object, **__: object) -> None:
        raise StoreUnavailableError("down")

    monkeypatch.setattr(store, "append", fail)
    session = ConversationSession(name, store)
    with pytest.raises(StoreUnavailableError):
        await session.add_items(items("a"))
    with pytest.raises(StoreUnavailableError):
        await in_another_thread(lambda: session.add_items(items("a")))


# --- loops and threads ----------------------------------------------------------------------------


async def in_another_thread(work: Callable[[], Awaitable[Any]]) -> Any:
    """Await `work()` in a loop of a thread of its own, while this loop goes on."""

    async def begin() -> Any:
        return await work()

    return await asyncio.to_thread(asyncio.run, begin())


class OneLoopStore(MemoryConversationStore):
    """Notes in which loops it is used: it must be one."""

    def __init__(self) -> None:
        super().__init__(MemoryNotifications())
        self.loops: set[int] = set()
        self.is_closed = False

    async def append(self, *args: Any, **kwargs: Any) -> list[str]:
        self.loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(0)
        return await super().append(*args, **kwargs)

    async def aclose(self) -> None:
        assert id(asyncio.get_running_loop()) in self.loops
        self.is_closed = True


async def test_a_store_is_used_in_the_loop_that_it_lives_in(name: str) -> None:
    """Whoever calls: this loop, and twenty threads with loops of their own at the same time."""
    store = OneLoopStore()
    session = ConversationSession(name, store)

    async def add(number: int) -> None:
        await session.add_items(items(str(number), str(number)))

    await asyncio.gather(
        add(20),
        *(in_another_thread(lambda n=n: add(n)) for n in range(20)),  # type: ignore[misc]
    )
    assert store.loops == {id(asyncio.get_running_loop())}
    stored = [cast(Any, item)["content"] for item in await session.get_items()]
    assert sorted(stored[::2], key=int) == [str(number) for number in range(21)]
    assert stored[::2] == stored[1::2], "a batch was torn"


def own_home(open_store: Callable[[], ConversationStore]) -> SessionHome:
    """What a URL leads to, with a store that can be looked into."""
    home = SessionHome("memory://")
    home._home = OwnHome(open_store)
    return home


def test_a_url_names_the_conversations(name: str, tmp_path: Path) -> None:
    """Two programs, one after the other, over a file; an unknown scheme says which there are."""
    url = f"sqlite:///{tmp_path}/chat.db"
    with ConversationSession(name, url) as session:
        asyncio.run(session.add_items(items("a")))
    with ConversationSession(name, url) as session:
        assert asyncio.run(session.get_items()) == items("a")
    lost = ConversationSession(name, "nowhere://")
    with pytest.raises(ConfigurationError, match="sqlite"):
        asyncio.run(lost.get_items())
    lost.close()


def test_a_session_of_a_url_outlives_loops(name: str) -> None:
    """One call of `asyncio.run` after the other, in several threads; all see one conversation."""
    store = OneLoopStore()
    home = own_home(lambda: store)
    session = home.session(name)

    def turn(number: int) -> None:
        asyncio.run(session.add_items(items(str(number))))
        assert asyncio.run(session.get_items())

    turn(0)
    threads = [threading.Thread(target=turn, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = asyncio.run(session.get_items())
    assert sorted(cast(Any, item)["content"] for item in stored) == list("012345")
    assert len(store.loops) == 1
    home.close()
    home.close()
    assert store.is_closed
    with pytest.raises(RequestError, match="closed"):
        asyncio.run(session.get_items())


def test_a_store_in_memory_moves_to_the_next_loop(name: str, store: ConversationStore) -> None:
    """A script calls `asyncio.run` twice with the same store."""
    session = ConversationSession(name, store)
    asyncio.run(session.add_items(items("a")))
    assert asyncio.run(session.get_items()) == items("a")


def test_a_store_with_connections_does_not_outlive_its_loop(
    name: str, store: MemoryConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to pass instead, at once."""
    monkeypatch.setattr(MemoryConversationStore, "is_distributed", property(lambda _: True))
    session = ConversationSession(name, store)
    asyncio.run(session.add_items(items("a")))
    with pytest.raises(ConfigurationError, match="URL"):
        asyncio.run(session.get_items())


async def test_who_is_cancelled_hears_it_when_the_items_are_stored(name: str) -> None:
    """Half of the change would otherwise happen behind the back of what comes next."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(MemoryConversationStore):
        async def append(self, *args: Any, **kwargs: Any) -> list[str]:
            begun.set()
            await asyncio.to_thread(go_on.wait, 10)
            return await super().append(*args, **kwargs)

    home = own_home(lambda: Slow(MemoryNotifications()))
    session = home.session(name)
    adding = asyncio.create_task(session.add_items(items("a")))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):
        adding.cancel()
        await asyncio.sleep(0)
    assert not adding.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert await session.get_items() == items("a")
    await asyncio.to_thread(home.close)


# --- clients --------------------------------------------------------------------------------------


@pytest.fixture
async def client(settings: Settings, backend: Backend) -> AsyncIterator[AsyncAgentClient]:
    async with AsyncAgentClient(settings, backend=backend, dispatcher=Nobody()) as client:
        yield client


class Nobody:
    """Rings no worker."""

    is_distributed = False

    async def ring(self, wake_ups: object) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_a_session_of_a_client_is_watched_through_it(
    client: AsyncAgentClient, name: str
) -> None:
    """Each item is pushed to whoever watches the conversation, and is in its history."""
    session = ConversationSession(name, client)
    seen: list[str] = []

    async def watch() -> None:
        async for message in client.watch_conversation(name):
            seen.append(message.text)  # noqa: PERF401 - as each comes

    watching = asyncio.create_task(watch())
    for text in ("a", "b"):
        await session.add_items(items(text))

        async def is_seen(text: str = text) -> bool:
            return text in seen

        await eventually(is_seen)
    watching.cancel()
    assert [each.text for each in await client.history(name)] == ["a", "b"]
    session.close()
    await session.add_items(items("c"))


def test_a_session_of_a_blocking_client_lives_in_its_thread(name: str) -> None:
    """And stays usable for as long as the client is open."""
    with AgentClient.local(Agent(TestModel(), name="clerk"), settings=Settings()) as client:
        session = ConversationSession(name, client)
        asyncio.run(session.add_items(items("a")))
        assert asyncio.run(session.get_items()) == items("a")
        assert [each.text for each in client.history(name)] == ["a"]
    with pytest.raises(RequestError, match="closed"):
        asyncio.run(session.get_items())
