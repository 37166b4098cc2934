"""Snapshots by the client: taken without an agent's code, put back whole, and never over others."""

import json
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agent_client import AgentClient, AsyncAgentClient, Settings
from shared.backend import Backend
from shared.card.value import AgentCard, PromptCard, ToolCard
from shared.conversation.memory import MemoryConversationStore
from shared.errors import (
    ConversationBusyError,
    ConversationNotEmptyError,
    InvalidIdError,
    SnapshotMismatchError,
    UnknownConversationError,
    UnreadableEntriesError,
)
from shared.message import Message, Role, ToolCall
from shared.sealing.wrapper import innermost
from shared.snapshot.value import SnapshotInfo
from shared.testing.conversation.value import imported, texts
from shared.testing.waiting import eventually
from shared.transfer.digest import digest_of
from tests.unit.client.puppet import AGENT, Puppet
from tests.unit.shared.transfer.stage import damage

NAME = "web:ada"
CALL = ToolCall(id="c1", name="search", arguments="{}")
CARD = AgentCard(
    agent=AGENT,
    provider="openai",
    model="openai:gpt-5.2",
    prompts=(PromptCard(text="Be brief."), PromptCard(is_dynamic=True, name="today")),
    tools=(ToolCard(name="search", description="Finds.", parameters={"type": "object"}),),
)


@pytest.fixture
async def saved(client: AsyncAgentClient, backend: Backend, puppet: Puppet) -> SnapshotInfo:
    """Of a conversation with one run that has ended, and that called a tool."""
    await backend.cards.put(CARD)
    run = await client.submit(AGENT, "hello", conversation_id=NAME)
    await puppet.take(run.id)
    await puppet.write(run.id, Message(id="x", role=Role.ASSISTANT, tool_calls=(CALL,)))
    await puppet.say(run.id, "done")
    await puppet.finish(run.id)
    return await client.snapshots.save(NAME)


async def test_a_snapshot_holds_the_history_and_what_its_agent_was(
    client: AsyncAgentClient, saved: SnapshotInfo
) -> None:
    """Messages as they are stored, prompts, tools, who, whose models, when."""
    loaded = await client.snapshots.load(saved.id)
    stored = await client.history(NAME)
    assert [message.at("") for message in loaded.history] == [each.at("") for each in stored]
    assert (saved.agent, saved.provider, saved.model) == (AGENT, "openai", "openai:gpt-5.2")
    assert (saved.messages, saved.digest) == (len(stored), digest_of(stored))
    assert saved.is_described
    assert loaded.prompts == CARD.prompts
    assert loaded.system_prompt == "Be brief."
    assert loaded.tools == CARD.tools
    assert await client.snapshots.list() == [saved]


async def test_it_is_restored_into_a_new_conversation(
    client: AsyncAgentClient, saved: SnapshotInfo
) -> None:
    """In one step, equal; doing it again changes nothing."""
    name = await client.snapshots.restore(saved.id)
    assert name == f"restored:{saved.id}"
    assert digest_of(await client.history(name)) == saved.digest
    assert await client.snapshots.restore(saved.id) == name
    assert await client.snapshots.restore(saved.id, conversation_id="web:eve") == "web:eve"
    for each in (name, "web:eve"):
        assert len(await client.history(each)) == saved.messages


async def test_the_same_conversation_is_only_replaced_when_asked_for(
    client: AsyncAgentClient, backend: Backend, saved: SnapshotInfo
) -> None:
    """Holding what the snapshot holds, there is nothing to do."""
    assert await client.snapshots.restore(saved.id, conversation_id=NAME) == NAME
    await backend.conversations.append(NAME, [imported("more")])
    with pytest.raises(ConversationNotEmptyError):
        await client.snapshots.restore(saved.id, conversation_id=NAME)
    assert texts(await client.history(NAME))[-1] == "more"
    await client.snapshots.restore(saved.id, conversation_id=NAME, replace=True)
    assert digest_of(await client.history(NAME)) == saved.digest


async def test_nothing_is_put_under_a_run_that_has_not_ended(
    client: AsyncAgentClient, saved: SnapshotInfo
) -> None:
    """It waits, or writes; the error names it."""
    run = await client.submit(AGENT, "more", conversation_id=NAME)
    with pytest.raises(ConversationBusyError) as caught:
        await client.snapshots.restore(saved.id, conversation_id=NAME, replace=True)
    assert caught.value.run_id == run.id


async def test_an_agent_of_another_provider_is_named(
    client: AsyncAgentClient, backend: Backend, saved: SnapshotInfo
) -> None:
    """Unless asked to go on; nothing is there otherwise."""
    await backend.cards.put(CARD.model_copy(update={"agent": "other", "provider": "anthropic"}))
    with pytest.raises(SnapshotMismatchError, match=r"'openai'.*'anthropic'"):
        await client.snapshots.restore(saved.id, agent="other")
    assert await client.history(f"restored:{saved.id}") == []
    await client.snapshots.restore(saved.id, agent="other", allow_mismatch=True)


async def test_missing_tools_are_named(
    client: AsyncAgentClient, backend: Backend, saved: SnapshotInfo
) -> None:
    """Those that the history calls; and nobody is asked about tools that come with a server."""
    await backend.cards.put(CARD.model_copy(update={"tools": (ToolCard(name="other"),)}))
    with pytest.raises(SnapshotMismatchError, match="search") as caught:
        await client.snapshots.restore(saved.id)
    assert caught.value.missing_tools == ("search",)
    await client.snapshots.restore(saved.id, allow_mismatch=True, conversation_id="web:a")
    await backend.cards.put(CARD.model_copy(update={"tools": (), "has_other_tools": True}))
    await client.snapshots.restore(saved.id, conversation_id="web:b")


async def test_an_agent_that_nobody_knows_cannot_be_checked(
    client: AsyncAgentClient, backend: Backend, saved: SnapshotInfo
) -> None:
    """So it is an error, too."""
    with pytest.raises(SnapshotMismatchError, match="Start a worker"):
        await client.snapshots.restore(saved.id, agent="nobody")
    await client.snapshots.restore(saved.id, agent="nobody", allow_mismatch=True)


async def test_a_conversation_without_runs_or_card_can_be_kept(
    client: AsyncAgentClient, backend: Backend
) -> None:
    """An imported one; it says that nobody described its agent."""
    await backend.conversations.append("web:old", [imported("hi")])
    info = await client.snapshots.save("web:old")
    assert (info.agent, info.is_described) == (None, False)
    assert await client.snapshots.restore(info.id) == f"restored:{info.id}"
    named = await client.snapshots.save("web:old", agent="unknown")
    assert (named.agent, named.is_described) == ("unknown", False)


async def test_there_is_no_snapshot_of_nothing_or_of_half(
    client: AsyncAgentClient, backend: Backend
) -> None:
    """Unless asked to go without what is damaged."""
    with pytest.raises(UnknownConversationError):
        await client.snapshots.save("web:nobody")
    await backend.conversations.append("web:old", [imported("a"), imported("b")])
    store = innermost(backend.conversations)
    assert isinstance(store, MemoryConversationStore)
    damage(store, "web:old", 0)
    with pytest.raises(UnreadableEntriesError):
        await client.snapshots.save("web:old")
    assert (await client.snapshots.save("web:old", skip_unreadable=True)).messages == 1


async def test_what_is_no_id_is_refused_before_anything_is_done(client: AsyncAgentClient) -> None:
    """Of a conversation, an agent, a snapshot."""
    for call in (
        client.snapshots.save("../x"),
        client.snapshots.save(NAME, agent="a b"),
        client.snapshots.list(conversation_id="{x}"),
        client.snapshots.list(agent=""),
        client.snapshots.load("x"),
        client.snapshots.restore("x"),
        client.snapshots.delete("../../x"),
    ):
        with pytest.raises(InvalidIdError):
            await call


def tea_agent(**more: object) -> "Agent[None, str]":
    def play(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        if isinstance(messages[-2] if len(messages) > 1 else None, ModelResponse):
            return ModelResponse(parts=[TextPart("Oolong.")])
        return ModelResponse(parts=[ToolCallPart("stock", {})])

    agent = Agent(FunctionModel(play), name="tea", instructions="Sell tea.")

    @agent.tool_plain
    def stock() -> str:
        """What there is."""
        return "oolong"

    return agent


def test_in_local_mode_a_conversation_goes_on_from_its_snapshot(tmp_path: Path) -> None:
    """Through the blocking client, from a folder: another process knows it after the first is gone.

    The worker has told its prompts and tools soon after it has started.
    """
    settings = Settings(handover_grace_s=0, snapshot_folder=tmp_path / "snapshots")
    with AgentClient.local(tea_agent(), settings=settings) as client:
        client.submit("tea", "What is there?", conversation_id=NAME).result(timeout_s=10)
        info = client.snapshots.save(NAME)
        before = client.history(NAME)
    assert (info.agent, info.provider, info.is_described) == ("tea", "function", True)
    with AgentClient.local(tea_agent(), settings=settings) as client:
        assert client.snapshots.list(agent="tea") == [info]
        loaded = client.snapshots.load(info.id)
        assert [tool.name for tool in loaded.tools] == ["stock"]
        assert loaded.system_prompt == "Sell tea."
        client.submit("tea", "Hello", conversation_id="web:warm-up").result(timeout_s=10)
        client.snapshots.restore(info.id, conversation_id=NAME)
        client.submit("tea", "And now?", conversation_id=NAME).result(timeout_s=10)
        after = client.history(NAME)
        assert digest_of(after[: len(before)]) == digest_of(before)
        assert len(after) == len(before) + 2, "its model saw that the tool was called"
        assert client.snapshots.delete(info.id)
        assert client.snapshots.list() == []


async def test_a_heartbeat_holds_nothing_of_cards(puppet: Puppet, backend: Backend) -> None:
    """They are large, and a heartbeat is written each second."""
    async with AsyncAgentClient.local(tea_agent(), settings=Settings(handover_grace_s=0)) as client:
        await eventually(lambda: client.backend.cards.find("tea"))
        [worker] = await client.workers()
    stored = json.dumps(worker.model_dump(mode="json"))
    assert "Sell tea" not in stored
    assert "What there is" not in stored


async def test_a_worker_that_shall_not_tell_prompts_does_not() -> None:
    """For those who keep them secret from whoever can read Redis."""
    settings = Settings(handover_grace_s=0, announce_prompts=False)
    async with AsyncAgentClient.local(tea_agent(), settings=settings) as client:
        await (await client.submit("tea", "x", conversation_id=NAME)).result(timeout_s=10)
        assert await client.backend.cards.find("tea") is None
        assert not (await client.snapshots.save(NAME)).is_described
