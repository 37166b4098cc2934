"""Pydantic AI's conversation store over conversations: as its own store in memory, and shared."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, BinaryContent, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    InMemoryConversationStore,
)
from pydantic_ai.conversation_store import (
    ConversationStore as NativeStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RunUsage

from agent_worker.interop.pydantic_ai import PydanticAIConversationStore, run
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import Writer
from shared.errors import InvalidIdError
from shared.identifier import new_run_id
from shared.message import Draft, Message, Role, ToolCall, Usage, tool_result_draft
from shared.notification.memory import MemoryNotifications
from tests.unit.engine.native import histories


@pytest.fixture
def conversations() -> MemoryConversationStore:
    return MemoryConversationStore(MemoryNotifications())


@pytest.fixture
def store(conversations: MemoryConversationStore) -> PydanticAIConversationStore:
    return PydanticAIConversationStore(conversations)


@pytest.fixture
def name() -> str:
    return f"web:{uuid4().hex}"


def turn(text: str) -> list[ModelMessage]:
    return [
        ModelRequest(parts=[UserPromptPart(text)]),
        ModelResponse(parts=[TextPart(f"re: {text}")]),
    ]


def written_by_a_run(*drafts: Draft) -> tuple[list[Message], Writer]:
    run_id = new_run_id(0)
    messages = [
        Message.from_draft(draft, run_id=run_id, position=place)
        for place, draft in enumerate(drafts)
    ]
    return messages, Writer(run_id, 1)


def dump(messages: list[ModelMessage]) -> Any:
    return ModelMessagesTypeAdapter.dump_python(messages, mode="json")


# --- as Pydantic AI's own store -------------------------------------------------------------------

STEP = st.one_of(
    st.tuples(st.just("say"), st.integers(0, 2), st.integers(0, 99)),
    st.tuples(st.just("rewrite"), st.integers(0, 2), st.integers(0, 4)),
    st.tuples(st.just("branch"), st.integers(0, 2), st.integers(0, 6)),
    st.tuples(st.just("back"), st.integers(0, 2), st.integers(0, 3)),
    st.tuples(st.just("fork"), st.integers(0, 2), st.integers(0, 6)),
    st.tuples(st.just("stale"), st.integers(0, 2), st.integers(0, 9)),
    st.tuples(st.just("delete"), st.integers(0, 2), st.integers(0, 9)),
    st.tuples(st.just("limit"), st.integers(0, 2), st.integers(0, 5)),
)


class Player:
    """Does the same to a store as to any other, and notes what it answers."""

    def __init__(self, store: NativeStore) -> None:
        self._store = store

    async def play(self, verb: str, which: int, number: int) -> object:
        try:
            return await getattr(self, f"_{verb}")(f"c{which}", number)
        except (ConversationConflict, UserError) as error:
            return type(error).__name__

    async def state(self) -> object:
        records = await self._store.list_conversations()
        loaded = [await self._store.load(each.conversation_id) for each in records]
        return sorted(
            (
                each.conversation_id,
                each.scope or "",
                each.forked_from or "",
                len(each.branches),
                each.usage.requests,
                dump(found.messages) if found else None,
            )
            for each, found in zip(records, loaded, strict=True)
        )

    async def _open(self, name: str) -> Conversation:
        return await self._store.load(name) or Conversation(conversation_id=name)

    async def _say(self, name: str, number: int) -> object:
        conversation = await self._open(name)
        conversation.messages += fixed(turn(str(number)))
        conversation.usage += RunUsage(requests=1)
        entries = await self._store.save(conversation, scope="a" if name == "c0" else None)
        assert [each.message for each in entries] == conversation.messages[-2:]
        return len(entries)

    async def _rewrite(self, name: str, number: int) -> object:
        conversation = await self._open(name)
        conversation.messages[number:] = fixed(turn(f"rewritten {number}"))
        conversation.new_message_index = None
        return len(await self._store.save(conversation))

    async def _branch(self, name: str, number: int) -> object:
        record = await self._store.read_record(name)
        revision = record.revision if record else None
        return len((await self._store.branch(name, at=number, expected_revision=revision)).messages)

    async def _back(self, name: str, number: int) -> object:
        record = await self._store.read_record(name)
        if record is None or not record.branches:
            return None
        return len(
            (
                await self._store.branch(
                    name,
                    from_entry=record.branches[number % len(record.branches)],
                    expected_revision=record.revision,
                )
            ).messages
        )

    async def _fork(self, name: str, number: int) -> object:
        forked = await self._store.fork(
            name, at=number, new_conversation_id=f"c{(int(name[1]) + 1) % 3}"
        )
        return len(forked.messages)

    async def _stale(self, name: str, number: int) -> object:
        first, second = await self._open(name), await self._open(name)
        first.messages += fixed(turn(f"first {number}"))
        second.messages += fixed(turn(f"second {number}"))
        await self._store.save(first)
        await self._store.save(second)
        return "both"

    async def _delete(self, name: str, number: int) -> object:
        if number < 7:
            return None
        await self._store.delete(name)
        return await self._store.load(name)

    async def _limit(self, name: str, number: int) -> object:
        conversation = await self._store.load(name, limit=number)
        if conversation is None:
            return None
        before = len(conversation.messages)
        conversation.messages += fixed(turn("behind a window"))
        await self._store.save(conversation)
        return before


def fixed(messages: list[ModelMessage]) -> list[ModelMessage]:
    """With one time for all, so that two stores can be compared."""
    for message in messages:
        message.timestamp = datetime(2026, 1, 1, tzinfo=UTC)
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                part.timestamp = message.timestamp
    return messages


@settings(deadline=None, max_examples=150)
@given(st.lists(STEP, max_size=14))
async def test_it_does_what_pydantic_ais_own_store_does(
    steps: list[tuple[str, int, int]],
) -> None:
    """Any order of saves, rewrites, branches, forks, conflicts and deletions."""
    theirs = Player(InMemoryConversationStore())
    ours = Player(PydanticAIConversationStore(MemoryConversationStore(MemoryNotifications())))
    for step in steps:
        assert await ours.play(*step) == await theirs.play(*step), step
        assert await ours.state() == await theirs.state(), step


@settings(deadline=None, max_examples=100)
@given(messages=histories)
async def test_messages_come_back_as_they_were(messages: list[ModelMessage]) -> None:
    """All kinds of parts, in one save and in one save for each message."""
    store = PydanticAIConversationStore(MemoryConversationStore(MemoryNotifications()))
    name = "c"
    await store.save(Conversation(conversation_id=name, messages=list(messages)))
    loaded = await store.load(name)
    assert loaded is not None
    assert dump(loaded.messages) == dump(messages)

    slowly = Conversation(conversation_id="slowly")
    for message in messages:
        slowly.messages.append(message)
        await store.save(slowly)
    loaded = await store.load("slowly") or Conversation()
    assert dump(loaded.messages) == dump(messages)


async def test_a_paused_conversation_keeps_what_it_waits_for(
    store: PydanticAIConversationStore, name: str
) -> None:
    """Calls that wait for approval, with their metadata; usage; scope."""
    waiting = DeferredToolRequests(
        approvals=[ToolCallPart("pay", {"sum": 5}, tool_call_id="1")], metadata={"1": {"why": "x"}}
    )
    conversation = Conversation(
        conversation_id=name,
        messages=turn("pay"),
        usage=RunUsage(requests=2, input_tokens=7, details={"x": 1}),
        deferred_tool_requests=waiting,
    )
    await store.save(conversation, scope="ada")
    loaded = await store.load(name)
    assert loaded is not None
    assert (loaded.usage, loaded.deferred_tool_requests) == (conversation.usage, waiting)
    assert await store.load(name, scope="bob") is None
    assert [each.conversation_id for each in await store.list_conversations(scope="ada")] == [name]
    assert await store.list_conversations(scope="bob") == []


class Slow(MemoryConversationStore):
    """Lets others in at each write, as a server does."""

    async def append(self, *args: Any, **kwargs: Any) -> list[str]:
        await asyncio.sleep(0)
        cursors = await super().append(*args, **kwargs)
        await asyncio.sleep(0)
        return cursors


async def test_of_several_who_save_at_once_one_does(name: str) -> None:
    """The others hear of the conflict, and nothing of their messages stays."""
    conversations = Slow(MemoryNotifications())
    stores = [PydanticAIConversationStore(conversations) for _ in range(8)]
    await stores[0].save(Conversation(conversation_id=name, messages=turn("first")))
    loaded = [await each.load(name) for each in stores]

    async def save(number: int) -> bool:
        conversation = loaded[number]
        assert conversation is not None
        conversation.messages += turn(str(number))
        try:
            await stores[number].save(conversation)
        except ConversationConflict:
            return False
        return True

    won = await asyncio.gather(*(save(number) for number in range(8)))
    assert sum(won) <= 1
    assert len(await conversations.list_messages(name)) == 2 + 2 * sum(won)
    assert await save_again(stores[0], name)


async def save_again(store: PydanticAIConversationStore, name: str) -> bool:
    conversation = await store.load(name)
    assert conversation is not None
    conversation.messages += turn("again")
    await store.save(conversation)
    return True


# --- shared with runs of workers ------------------------------------------------------------------


async def test_what_is_saved_can_be_read_and_watched(
    store: PydanticAIConversationStore, conversations: MemoryConversationStore, name: str
) -> None:
    """Prompts, answers, calls and results are messages of the conversation, and hint at once."""
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart(["look", BinaryContent(b"x", media_type="image/png")])]),
        ModelResponse(parts=[TextPart("yes"), ToolCallPart("look", {}, tool_call_id="1")]),
        ModelRequest(parts=[ToolReturnPart("look", "seen", tool_call_id="1")]),
    ]
    async with conversations.notifications.subscribe(conversations.topic(name)) as hints:
        await store.save(Conversation(conversation_id=name, messages=messages))
        assert await hints.wait(1)
    stored = await conversations.list_messages(name)
    assert [each.role for each in stored] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    assert [each.text for each in stored] == ["look", "yes", "seen"]
    assert [name async for name in conversations.conversation_ids()] == [name]


async def test_what_a_run_wrote_is_loaded(
    store: PydanticAIConversationStore, conversations: MemoryConversationStore, name: str
) -> None:
    """Before and after what was saved; its usage counts; saving goes on behind it."""
    call = ToolCall(id="c", name="look", arguments="{}")
    drafts = (
        Draft(role=Role.USER, content="hi"),
        Draft(role=Role.ASSISTANT, tool_calls=(call,), usage=Usage(input_tokens=5, requests=1)),
        tool_result_draft(call, "seen"),
        Draft(role=Role.ASSISTANT, content="done", usage=Usage(input_tokens=6, requests=1)),
    )
    messages, writer = written_by_a_run(*drafts)
    await conversations.append(name, messages, writer=writer)
    conversation = await store.load(name)
    assert conversation is not None
    assert [type(each).__name__ for each in conversation.messages] == [
        "ModelRequest",
        "ModelResponse",
    ] * 2
    assert (conversation.usage.requests, conversation.usage.input_tokens) == (2, 11)

    conversation.messages += turn("ours")
    await store.save(conversation)
    messages, writer = written_by_a_run(*drafts)
    await conversations.append(name, messages, writer=Writer(writer.run_id, 2))
    conversation = await store.load(name)
    assert conversation is not None
    assert len(conversation.messages) == 10
    assert conversation.usage.requests == 4
    assert len(await store.load_entries(name, limit=3) or []) == 3
    conversation.messages += turn("more")
    await store.save(conversation)
    assert len(await store.load_entries(name) or []) == 12


async def test_a_run_that_wrote_meanwhile_is_a_conflict(
    store: PydanticAIConversationStore, conversations: MemoryConversationStore, name: str
) -> None:
    """The history that was loaded is not the one that is there; nothing is saved."""
    await store.save(Conversation(conversation_id=name, messages=turn("first")))
    conversation = await store.load(name)
    assert conversation is not None
    messages, writer = written_by_a_run(Draft(role=Role.USER, content="hi"))
    await conversations.append(name, messages, writer=writer)
    conversation.messages += turn("late")
    with pytest.raises(ConversationConflict):
        await store.save(conversation)
    assert len(await conversations.list_messages(name)) == 3


async def test_a_save_that_dies_is_as_if_somebody_else_had_written(
    store: PydanticAIConversationStore,
    conversations: MemoryConversationStore,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the messages and the record: the messages are there, whole; the next save goes on."""
    await store.save(Conversation(conversation_id=name, messages=turn("first")))
    conversation = await store.load(name)
    assert conversation is not None
    conversation.messages += turn("second")
    with monkeypatch.context() as patch:

        async def die(*_: object) -> bool:
            raise KeyboardInterrupt

        patch.setattr("shared.conversation.register.Register.swap", die)
        with pytest.raises(KeyboardInterrupt):
            await store.save(conversation)
    again = await store.load(name)
    assert again is not None
    assert again.messages == conversation.messages
    assert again.revision != conversation.revision
    assert await save_again(store, name)
    assert len(await conversations.list_messages(name)) == 6


async def test_a_conversation_that_was_cleared_begins_anew(
    store: PydanticAIConversationStore, conversations: MemoryConversationStore, name: str
) -> None:
    """By the client, or for the law."""
    await store.save(Conversation(conversation_id=name, messages=turn("first")))
    await conversations.clear(name)
    conversation = await store.load(name)
    assert conversation is not None
    assert conversation.messages == []
    assert await save_again(store, name)
    assert len(await conversations.list_messages(name)) == 2


async def test_deleting_erases_the_messages(
    store: PydanticAIConversationStore, conversations: MemoryConversationStore, name: str
) -> None:
    """A fork keeps its own copies."""
    await store.save(Conversation(conversation_id=name, messages=turn("first")))
    fork = await store.fork(name)
    await store.delete(name)
    assert await conversations.list_messages(name) == []
    assert await store.load(name) is None
    kept = await store.load(fork.conversation_id)
    assert kept is not None
    assert kept.messages == fork.messages
    entry = (await store.load_entries(fork.conversation_id) or [])[0]
    elsewhere = PydanticAIConversationStore(conversations)
    assert (await elsewhere.read_entry(entry.id)).message == entry.message
    with pytest.raises(LookupError):
        await elsewhere.read_entry("nobody")


async def test_an_agent_is_run_with_its_conversation(
    store: PydanticAIConversationStore, conversations: MemoryConversationStore, name: str
) -> None:
    """Two turns and a tool: the second model call sees the first turn."""
    seen: list[int] = []

    def play(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        seen.append(len(messages))
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("look", {})])
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(play), name="clerk")

    @agent.tool_plain
    def look() -> str:
        """Look."""
        return "seen"

    assert (await run(store, agent, "hi", conversation_id=name)).output == "done"
    assert (await run(store, agent, "again", conversation_id=name)).output == "done"
    assert seen == [1, 3, 5]
    roles = [each.role.value for each in await conversations.list_messages(name)]
    assert roles == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    with pytest.raises(InvalidIdError):
        await run(store, agent, "hi", conversation_id="a/b")
