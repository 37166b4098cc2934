"""Conversations to be moved, and stores that misbehave on the way."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import Writer
from shared.errors import StoreUnavailableError
from shared.message import Message
from shared.notification.memory import MemoryNotifications
from shared.testing.conversation.value import conversation_name, imported, messages, run_name
from shared.transfer.digest import digest_of
from shared.transfer.value import TransferOptions

QUICK = TransferOptions(page_size=7, patience_s=0.5)
"""Pages that end within the conversations of these tests."""


def new_store() -> MemoryConversationStore:
    return MemoryConversationStore(MemoryNotifications())


async def fill(store: MemoryConversationStore, count: int) -> str:
    """A conversation of two runs and some imported messages; return its name."""
    name = conversation_name()
    await store.append(name, [imported(f"old {number}") for number in range(count // 3)])
    for token, share in ((1, count // 3), (2, count - 2 * (count // 3))):
        run_id = run_name()
        await store.append(name, messages(run_id, range(share)), writer=Writer(run_id, token))
    return name


async def digest(store: MemoryConversationStore, name: str) -> str:
    return digest_of(await store.list_messages(name))


def damage(store: MemoryConversationStore, name: str, place: int) -> None:
    """Make an entry one that no reader understands."""
    entries = store._logs[name].entries
    entries[place] = replace(entries[place], stored="{")


def some_message(text: str = "x") -> Message:
    return imported(f"{text} {uuid4().hex}")


class Restless(MemoryConversationStore):
    """Does something of a test's own before its next reads."""

    def __init__(self) -> None:
        super().__init__(MemoryNotifications())
        self.before_reads: list[Callable[[], Awaitable[object]]] = []
        self.before_reads_of: dict[str, Callable[[], Awaitable[object]]] = {}

    async def list_messages(self, conversation_id: str, **part: Any) -> list[Message]:
        if self.before_reads:
            await self.before_reads.pop(0)()
        if (action := self.before_reads_of.pop(conversation_id, None)) is not None:
            await action()
        return await super().list_messages(conversation_id, **part)


class LosesAnswers(MemoryConversationStore):
    """Executes the first appends, and does not answer; `late` ones only after the next append."""

    def __init__(self, times: int, *, late: bool = False) -> None:
        super().__init__(MemoryNotifications())
        self._times = times
        self._late = late
        self._pending: list[tuple[str, list[Message]]] = []
        self.appended = 0

    async def append(
        self,
        conversation_id: str,
        messages: Sequence[Message],
        *,
        writer: Writer | None = None,
    ) -> list[str]:
        self.appended += 1
        if self._times > 0:
            self._times -= 1
            if self._late:
                self._pending.append((conversation_id, list(messages)))
            else:
                await super().append(conversation_id, messages, writer=writer)
            raise StoreUnavailableError("no answer")
        cursors = await super().append(conversation_id, messages, writer=writer)
        for name, latecomers in self._pending:
            await super().append(name, latecomers)
        self._pending.clear()
        return cursors


class Killed(BaseException):
    """The process ends here."""


class DiesAtAppend(MemoryConversationStore):
    """Is killed at its n-th append: before it or (`after`) when it was executed."""

    def __init__(self) -> None:
        super().__init__(MemoryNotifications())
        self.dies_at = 0
        self.after = False
        self.appended = 0

    async def append(
        self,
        conversation_id: str,
        messages: Sequence[Message],
        *,
        writer: Writer | None = None,
    ) -> list[str]:
        self.appended += 1
        is_death = self.appended == self.dies_at
        if is_death and not self.after:
            raise Killed
        cursors = await super().append(conversation_id, messages, writer=writer)
        if is_death:
            raise Killed
        return cursors
