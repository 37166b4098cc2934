"""A conversation store of Pydantic AI, over any conversations of ours.

    store = PydanticAIConversationStore(open_conversations("redis://localhost:6379/0"))
    result = await run(store, agent, "Hello", conversation_id="web:ada")

The messages are in the conversation itself, where `client.history` and `client.watch_conversation`
show them, runs of workers go on with them, and what such runs write is loaded here. What Pydantic
AI keeps besides (usage, the head of the history, calls that wait for approval) is in a hidden
history next to it.

The log only grows. A branch that was left stays where it was written: Pydantic AI passes over it,
while people and runs of workers see all that was said. So branch a conversation that workers go on
with into a new one (`fork`).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import uuid4

from pydantic import JsonValue
from pydantic_ai import Agent
from pydantic_ai.agent import AgentRunResult
from pydantic_ai.usage import RunUsage

from shared.conversation.protocol import ConversationStore
from shared.conversation.register import Held, Register, hidden_history
from shared.errors import ConfigurationError, CorruptEntryError
from shared.identifier import check_id
from shared.message import Message, Role

try:
    from pydantic_ai.conversation import Conversation, ConversationTypeAdapter
    from pydantic_ai.conversation_store import ConversationConflict, ConversationEntry
    from pydantic_ai.conversation_store import ConversationRecord as Record
    from pydantic_ai.conversation_store import ConversationStore as NativeStore

    from agent_worker.interop.pydantic_ai_log import MARK, Log, entry_messages
except ImportError as error:
    raise ConfigurationError(
        "This Pydantic AI knows no conversation stores: pip install 'celery-agents[pydantic-ai]'."
    ) from error

Deps = TypeVar("Deps")
Output = TypeVar("Output")

_RECORD: Final = "pydantic-ai-record"
_LIST: Final = "pydantic-ai-list"
_HOMES: Final = 10_000
"""Entries of which this process remembers the conversation."""


async def run(
    store: "PydanticAIConversationStore",
    agent: Agent[Deps, Output],
    prompt: str,
    *,
    conversation_id: str,
    scope: str | None = None,
    **options: Any,
) -> AgentRunResult[Output]:
    """Load a conversation, run the agent with it, and save what it added.

    `options` are those of `Agent.run`.

    Raises:
        ConversationConflict: Somebody else wrote to the conversation meanwhile. Nothing is saved;
            what the run's tools did is done.
        StoreUnavailableError: No answer in bounded time.
    """
    conversation = await store.load(conversation_id, scope=scope)
    if conversation is None:
        conversation = Conversation(conversation_id=check_id(conversation_id, "conversation id"))
    result: AgentRunResult[Output] = await agent.run(prompt, conversation=conversation, **options)
    await store.save(result, scope=scope)
    return result


class PydanticAIConversationStore(NativeStore):
    """See Pydantic AI's `ConversationStore`, all of whose promises hold.

    Ids are those of conversations of ours (see `shared.identifier`); entries and branches are lost
    with `clear` and `remove`, as messages are. `delete` erases the messages, too; a fork has copies
    of its own. A conversation that only runs of workers wrote to can be loaded and saved; it is
    listed once it was saved. Reading a history reads the whole log.

    Raises `StoreUnavailableError` where the store does not answer, and `InvalidIdError`.
    """

    def __init__(self, store: ConversationStore) -> None:
        self._store = store
        self._homes: dict[str, str] = {}

    async def read_record(self, conversation_id: str) -> Record | None:
        """See Pydantic AI; for a conversation that others wrote to, a record that says so."""
        check_id(conversation_id, "conversation id")
        held, newest = await self._look(conversation_id)
        record = _record(held)
        if _revision(held, newest) is None:
            return None
        if record is None:
            record = Record(conversation_id=conversation_id, head_id=None)
        if newest is None or newest != _as_of(held):
            await self._take_over(record, _as_of(held))
        record.revision = _revision(held, newest) or ""
        self._remember(record.head_id, *record.branches, conversation_id=conversation_id)
        return record

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[Record]:
        """See Pydantic AI. Reads each record of the scope, or each that there is."""
        names = {name: None async for _, name in self._listed(scope)}
        records = [await self.read_record(name) for name in names]
        found = [each for each in records if each and (scope is None or each.scope == scope)]
        found.sort(key=lambda each: each.updated_at, reverse=True)
        return found[:limit]

    async def write_record(
        self,
        record: Record,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """See Pydantic AI. New messages become visible in one step; a conflict removes them."""
        name = check_id(record.conversation_id, "conversation id")
        held, newest = await self._look(name)
        if _revision(held, newest) != expected_revision:
            raise ConversationConflict(name)
        entries = [*await self._missing(record, new_entries), *new_entries]
        cursors = await self._store.append(
            name, [message for entry in entries for message in entry_messages(entry)]
        )
        if _record(held) is None:
            await self._list(name, record.scope)
        is_alone = not cursors or not await self._has_between(name, newest, cursors[0])
        as_of = cursors[-1] if cursors else newest
        value = _value(record, as_of)
        if not is_alone or not await self._register(name).swap(held, value):
            for cursor in cursors:
                await self._store.remove(name, cursor)
            raise ConversationConflict(name)
        self._remember(*(entry.id for entry in entries), conversation_id=name)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """See Pydantic AI. All messages of the conversation are deleted."""
        held, newest = await self._look(conversation_id)
        if _revision(held, newest) != expected_revision:
            raise ConversationConflict(conversation_id)
        record = _record(held)
        if not await self._register(conversation_id).swap(held, {"deleted": True, "as_of": newest}):
            raise ConversationConflict(conversation_id)
        await self._store.delete(conversation_id)
        if record is not None:
            for scope in {None, record.scope}:
                async for cursor, name in self._listed(scope):
                    if name == conversation_id:
                        await self._store.remove(_list_history(scope), cursor)

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """See Pydantic AI."""
        if head_id is None:
            return []
        history = (await self._log_with(head_id)).history(head_id)
        return history if limit is None else history[max(0, len(history) - limit) :]

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """See Pydantic AI. An entry that this process has not met is looked for everywhere."""
        return (await self._log_with(entry_id)).history(entry_id)[-1]

    # --- what is stored ---------------------------------------------------------------------------

    async def _look(self, conversation_id: str) -> tuple[Held, str | None]:
        held = await self._register(conversation_id).read()
        newest = await self._store.list_messages(conversation_id, limit=1)
        return held, newest[0].cursor if newest else None

    async def _take_over(self, record: Record, as_of: str | None) -> None:
        """Let the history end where the log ends: others wrote, or removed, since it was saved."""
        messages = await self._store.list_messages(record.conversation_id)
        record.head_id = Log(messages).last_id
        record.deferred_tool_requests = None
        later = messages
        if as_of is not None:
            later = await self._store.list_messages(record.conversation_id, after=as_of)
        for message in later:
            if MARK not in message.metadata and message.usage is not None:
                record.usage += RunUsage(
                    input_tokens=message.usage.input_tokens,
                    output_tokens=message.usage.output_tokens,
                    cache_read_tokens=message.usage.cache_read_tokens,
                    cache_write_tokens=message.usage.cache_write_tokens,
                    requests=message.usage.requests,
                    tool_calls=message.usage.tool_calls,
                )

    async def _missing(
        self, record: Record, new_entries: Sequence[ConversationEntry]
    ) -> list[ConversationEntry]:
        """Entries that the record's history begins with, and that are in another conversation.

        Raises:
            ConversationConflict: They are nowhere (any more).
        """
        first = new_entries[0].parent_id if new_entries else record.head_id
        if first is None:
            return []
        own = Log(await self._store.list_messages(record.conversation_id))
        if first in own:
            return []
        with suppress(LookupError):
            if record.forked_from is not None:
                log = Log(await self._store.list_messages(record.forked_from))
                return log.history(first)
        raise ConversationConflict(record.conversation_id)

    async def _has_between(self, conversation_id: str, newest: str | None, cursor: str) -> bool:
        between = await self._store.list_messages(
            conversation_id, after=newest, before=cursor, limit=1
        )
        return bool(between)

    async def _log_with(self, entry_id: str) -> Log:
        """The log of a conversation that holds the entry. Raises KeyError."""
        home = self._homes.get(entry_id)
        if home is not None:
            log = Log(await self._store.list_messages(home))
            if entry_id in log:
                return log
        async for conversation_id in self._store.conversation_ids():
            log = Log(await self._store.list_messages(conversation_id))
            if entry_id in log:
                self._remember(entry_id, conversation_id=conversation_id)
                return log
        raise KeyError(entry_id)

    def _remember(self, *entry_ids: str | None, conversation_id: str) -> None:
        for entry_id in entry_ids:
            if entry_id is not None:
                self._homes[entry_id] = conversation_id
        while len(self._homes) > _HOMES:
            del self._homes[next(iter(self._homes))]

    def _register(self, conversation_id: str) -> Register:
        return Register(self._store, hidden_history(_RECORD, conversation_id))

    async def _list(self, conversation_id: str, scope: str | None) -> None:
        for each in {None, scope}:
            entry = Message(
                role=Role.SYSTEM,
                content="",
                id=uuid4().hex,
                metadata={"conversation": conversation_id},
            )
            await self._store.append(_list_history(each), [entry])

    async def _listed(self, scope: str | None) -> AsyncIterator[tuple[str, str]]:
        for entry in await self._store.list_messages(_list_history(scope)):
            yield entry.cursor or "", str(entry.metadata.get("conversation"))


def _list_history(scope: str | None) -> str:
    return hidden_history(_LIST, "" if scope is None else f"scope:{scope}")


def _as_of(held: Held) -> str | None:
    cursor = held.value.get("as_of") if isinstance(held.value, dict) else None
    return cursor if isinstance(cursor, str) else None


def _revision(held: Held, newest: str | None) -> str | None:
    """It changes with every save, and with every message that somebody else writes or removes."""
    match held.value:
        case {"revision": str(revision)}:
            return revision if newest == _as_of(held) else f"{revision}+{newest}"
        case {"deleted": True} if newest == _as_of(held):
            return None  # its messages are about to go
    return None if newest is None else f"+{newest}"


def _value(record: Record, as_of: str | None) -> JsonValue:
    carried = Conversation(
        conversation_id=record.conversation_id,
        usage=record.usage,
        deferred_tool_requests=record.deferred_tool_requests,
    )
    branches: list[JsonValue] = [*record.branches]
    return {
        "revision": record.revision,
        "head": record.head_id,
        "as_of": as_of,
        "scope": record.scope,
        "forked_from": record.forked_from,
        "forked_at": record.forked_at,
        "branches": branches,
        "updated_at": record.updated_at.isoformat(),
        "carried": ConversationTypeAdapter.dump_python(carried, mode="json"),
    }


def _record(held: Held) -> Record | None:
    value: Any = held.value
    if value is None or value.get("deleted"):
        return None
    try:
        carried = ConversationTypeAdapter.validate_python(value["carried"])
        return Record(
            conversation_id=carried.conversation_id,
            head_id=value["head"],
            usage=carried.usage,
            deferred_tool_requests=carried.deferred_tool_requests,
            scope=value["scope"],
            forked_from=value["forked_from"],
            forked_at=value["forked_at"],
            branches=list(value["branches"]),
            revision=value["revision"],
            updated_at=datetime.fromisoformat(value["updated_at"]),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise CorruptEntryError(
            "The record that Pydantic AI keeps of a conversation cannot be read."
        ) from error
