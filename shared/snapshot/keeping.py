"""Taking a snapshot of a conversation, and putting one back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.card.protocol import AgentCards
from shared.card.value import AgentCard
from shared.conversation.protocol import ConversationStore
from shared.errors import (
    ConversationNotEmptyError,
    SnapshotMismatchError,
)
from shared.ledger.idleness import check_idle
from shared.ledger.protocol import RunLedger
from shared.message import Message
from shared.snapshot.identity import new_snapshot_id
from shared.snapshot.value import Snapshot, SnapshotInfo
from shared.transfer.digest import digest_of
from shared.transfer.whole import read_whole


@dataclass(frozen=True, slots=True)
class Place:
    """Where conversations, runs and what is known of agents are."""

    conversations: ConversationStore
    ledger: RunLedger
    cards: AgentCards


async def take_snapshot(
    place: Place, conversation_id: str, *, agent: str | None = None, skip_unreadable: bool = False
) -> Snapshot:
    """A snapshot of a conversation as it is now, not saved yet.

    Without an `agent`, it is that of the conversation's newest run. Its prompts and tools are in
    the snapshot as far as a worker has told them; `SnapshotInfo.is_described` says whether one has.
    A run may be writing: what it has written so far is in it.

    Raises:
        UnknownConversationError: It holds no message.
        UnreadableEntriesError: A part cannot be read, and `skip_unreadable` is not set.
        NewerVersionError: A message, or the agent's card, is for newer readers.
        StoreUnavailableError: No answer.
    """
    whole = await read_whole(place.conversations, conversation_id, may_lose=skip_unreadable)
    name = agent if agent is not None else await _agent_of(place, conversation_id)
    card = None if name is None else await place.cards.find(name)
    return _snapshot(conversation_id, whole.messages, name, card)


async def restore_snapshot(
    place: Place,
    snapshot: Snapshot,
    *,
    conversation_id: str | None = None,
    agent: str | None = None,
    replace: bool = False,
    allow_mismatch: bool = False,
) -> str:
    """Put a snapshot's messages into a conversation, and return the conversation's id.

    They are as they were: ids, run ids, times. Without a `conversation_id` it is
    ``restored:<snapshot id>``. All of them are appended in one atomic step, so a reader finds all
    or none. With `replace`, a conversation that holds messages is cleared first: that is a step of
    its own, and who dies in between leaves it empty, to be restored again. Repeating a restore that
    succeeded changes nothing.

    The `agent` that shall go on with it (the snapshot's own, unless given) has to use models of the
    same provider and have every tool that the history calls, by its card. Tools of agents that
    have others beside those known, such as MCP servers, are not checked. `allow_mismatch` goes on.

    Raises:
        SnapshotMismatchError: It does not fit the agent, or nobody has described that agent.
        ConversationNotEmptyError: The conversation holds other messages.
        ConversationBusyError: A run of the conversation has not ended.
        InvalidIdError: The id is not one of a conversation.
        StoreUnavailableError: No answer; repeating it is safe.
    """
    name = agent if agent is not None else snapshot.info.agent
    if name is not None and not allow_mismatch:
        check_fits(snapshot, name, await place.cards.find(name))
    target = conversation_id or f"restored:{snapshot.info.id}"
    await check_idle(place.ledger, target)
    store = place.conversations
    if await store.count(target):
        if digest_of(await store.list_messages(target)) == snapshot.info.digest:
            return target
        if not replace:
            raise ConversationNotEmptyError(
                f"Conversation {target} holds messages. Restore into another one, or say that "
                "they may be replaced."
            )
        await store.clear(target)
    await store.append(target, snapshot.history)
    return target


def check_fits(snapshot: Snapshot, agent: str, card: AgentCard | None) -> None:
    """Return if an agent can go on with a snapshot, as far as its card tells.

    Raises:
        SnapshotMismatchError: It cannot, or there is no card.
    """
    if card is None:
        raise SnapshotMismatchError(
            f"Nobody knows the prompts and tools of agent {agent!r}, so whether the snapshot fits "
            "it cannot be checked. Start a worker that serves it, or say that it may differ."
        )
    theirs = snapshot.info.provider
    if theirs is not None and card.provider is not None and theirs != card.provider:
        raise SnapshotMismatchError(
            f"The snapshot is of an agent with models of {theirs!r}, and {agent!r} uses those of "
            f"{card.provider!r}, which may refuse its history. Restore it for an agent with "
            f"{theirs!r}, or say that it may differ."
        )
    missing = tuple(sorted(snapshot.called_tools - card.tool_names))
    if missing and not card.has_other_tools:
        raise SnapshotMismatchError(
            f"The history calls tools that agent {agent!r} does not have: {', '.join(missing)}. "
            "Restore it for an agent that has them, or say that they may be missing.",
            missing,
        )


def _snapshot(
    conversation_id: str, history: Sequence[Message], agent: str | None, card: AgentCard | None
) -> Snapshot:
    messages = tuple(message.model_copy(update={"cursor": None}) for message in history)
    known = card or AgentCard(agent=agent or "")
    return Snapshot(
        info=SnapshotInfo(
            id=new_snapshot_id(conversation_id),
            conversation_id=conversation_id,
            agent=agent,
            provider=known.provider,
            model=known.model,
            messages=len(messages),
            digest=digest_of(messages),
            created_at=datetime.now(UTC),
            is_described=card is not None,
        ),
        history=messages,
        prompts=known.prompts,
        tools=known.tools,
        has_other_tools=known.has_other_tools,
    )


async def _agent_of(place: Place, conversation_id: str) -> str | None:
    newest = await place.ledger.list_runs(conversation_id=conversation_id, limit=1)
    return newest[0].agent if newest else None
