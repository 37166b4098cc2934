"""Conversations to be forked, archived and purged, and stores that are cut off in between."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from shared.backend import Archive, Backend
from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import ConversationStore, Writer
from shared.directory.record import ConversationRecord
from shared.errors import (
    StoreUnavailableError,
)
from shared.message import (
    Draft,
    Message,
    MessageKind,
    Role,
    ToolCall,
    tool_result_draft,
    user_draft,
)
from shared.notification.memory import MemoryNotifications
from shared.run import Run
from tests.contract.values import COMPLETED, new_run, take

CALLS = tuple(ToolCall(id="c", name=name, arguments="{}") for name in ("a", "b"))
ROUND: Sequence[Draft] = (
    user_draft("hello"),
    Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=CALLS),
    tool_result_draft(CALLS[0], "one"),
    tool_result_draft(CALLS[1], "two"),
    Draft(role=Role.ASSISTANT, content="done"),
)


async def play(
    backend: Backend, record: ConversationRecord, drafts: Sequence[Draft] = ROUND, **fields: Any
) -> Run:
    """A run that writes these messages and completes."""
    run = (await backend.ledger.submit(new_run(record.id, **fields))).run
    lease = await take(backend.ledger, run.id)
    writer = Writer(run.id, lease.fencing_token)
    await backend.conversations.claim(record.id, writer, limit=0)
    await backend.conversations.append(record.id, placed(run.id, drafts), writer=writer)
    await backend.ledger.finish(lease, COMPLETED)
    return run


def placed(run_id: str, drafts: Sequence[Draft]) -> list[Message]:
    return [
        Message.from_draft(draft, run_id=run_id, position=position)
        for position, draft in enumerate(drafts)
    ]


async def messages_of(store: ConversationStore, conversation_id: str) -> list[Message]:
    """What is stored, without the places in this store."""
    found = await store.list_messages(conversation_id)
    return [message.model_copy(update={"cursor": None}) for message in found]


class Cut:
    """A store, ledger or directory of which one call raises, before or after it was done."""

    def __init__(self, whole: Any, call: str, *, is_done: bool) -> None:
        self._whole, self._call, self._is_done = whole, call, is_done
        self.is_cut = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._whole, name)
        if name != self._call or self.is_cut:
            return found

        async def cut(*args: Any, **options: Any) -> Any:
            self.is_cut = True
            if self._is_done:
                await found(*args, **options)
            raise StoreUnavailableError("cut off")

        return cut


def cut_off(backend: Backend, part: str, call: str, *, is_done: bool) -> Backend:
    """The backend with a part that is cut off at this call."""
    if part == "archive":
        assert backend.archive is not None
        store: Any = Cut(backend.archive.conversations, call, is_done=is_done)
        return replace(backend, archive=Archive(backend.archive.name, store))
    changed: dict[str, Any] = {part: Cut(getattr(backend, part), call, is_done=is_done)}
    return replace(backend, **changed)


def with_attic(backend: Backend) -> Backend:
    """The backend with an archive."""
    store = MemoryConversationStore(MemoryNotifications())
    return replace(backend, archive=Archive("attic", store))
