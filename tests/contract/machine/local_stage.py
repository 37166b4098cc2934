"""Histories on disk on the stage, with runs in memory: local mode that outlives its process."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

from shared.backend import Backend
from shared.conversation.local.store import LocalConversationStore
from shared.memory.clock import Clock
from shared.memory_backend import build_memory_backend
from shared.message import Message
from tests.contract.machine.stage import MemoryStage


class LocalStage(MemoryStage):
    """Each store is a new one in `folder`; `open_at` makes it, with a clock that is moved."""

    def __init__(
        self, folder: Path, open_at: Callable[[Path, Clock], LocalConversationStore]
    ) -> None:
        super().__init__()
        self._folder = folder
        self._open_at = open_at
        self._numbers = count()
        self._store: LocalConversationStore | None = None

    async def open(self) -> Backend:
        await self.aclose()
        self._store = self._open_at(self._folder / str(next(self._numbers)), lambda: self._now)
        memory = build_memory_backend(self.settings, clock=lambda: self._now)
        self._backend = memory.with_conversations(self._store)
        return self._backend

    async def aclose(self) -> None:
        if self._store is not None:
            await self._store.aclose()

    async def _all_messages(self) -> dict[str, list[Message]]:
        runs = await self._backend.ledger.list_runs(limit=1_000_000)
        histories = {run.history_id for run in runs}
        histories |= {each async for each in self._backend.conversations.conversation_ids()}
        return {
            history: await self._backend.conversations.list_messages(history)
            for history in histories
        }
