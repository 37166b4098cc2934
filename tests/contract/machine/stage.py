"""The stage: a store that is empty at the beginning, whose time is moved and not waited for.

What depends on time are heartbeats, leases and what is overdue. The settings make these so long
that the time which a test really takes is nothing beside them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from shared.backend import Backend
from shared.conversation.memory import MemoryConversationStore
from shared.ledger.memory import MemoryRunLedger
from shared.memory_backend import build_memory_backend
from shared.message import Message
from shared.sealing.ledger import innermost_ledger
from shared.sealing.wrapper import innermost
from shared.settings import Settings
from tests.contract.machine.snapshot import Snapshot

SETTINGS: Final[dict[str, Any]] = {
    "lease_s": 100_000.0,
    "pickup_s": 50_000.0,
    "heartbeat_s": 10_000.0,
    "sweep_s": 5_000.0,
    "max_crashes": 2,
    "event_ttl_s": 1e9,
    "run_ttl_s": 1e9,
    "idempotency_ttl_s": 1e9,
}


class Stage(Protocol):
    """One implementation of the stores, under control."""

    settings: Settings

    async def open(self) -> Backend:
        """An empty store."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """Let the store believe that it is later."""
        ...

    async def look(self) -> Snapshot:
        """All that is stored."""
        ...

    async def aclose(self) -> None:
        """Give connections back."""
        ...


class MemoryStage:
    """The stores in memory take their time from a clock that is handed in."""

    def __init__(self) -> None:
        self.settings = Settings(**SETTINGS)
        self._now = datetime(2030, 1, 1, tzinfo=UTC)
        self._backend: Backend
        self._decoded: dict[int, Message] = {}

    async def open(self) -> Backend:
        self._decoded.clear()
        self._backend = build_memory_backend(self.settings, clock=lambda: self._now)
        return self._backend

    async def pass_time(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def look(self) -> Snapshot:
        ledger = innermost_ledger(self._backend.ledger)
        assert isinstance(ledger, MemoryRunLedger)
        runs = dict(ledger._runs._runs)
        lines = ledger._lines
        return Snapshot(
            runs=runs,
            messages=await self._all_messages(),
            ready=frozenset(ledger._ready),
            suspects=frozenset(name for name in ledger._ready if runs[name].is_suspect),
            leases={worker: frozenset(held) for worker, held in ledger._leased.items()},
            holders=frozenset(ledger._leased),
            active={name: line.active for name, line in lines.items() if line.active},
            waiting={name: [*line._interrupting, *line._waiting] for name, line in lines.items()},
            cancelling=frozenset(
                run.id for run in runs.values() if run.cancel_requested and not run.status.is_final
            ),
            by_status=_grouped((run.status, run.id) for run in runs.values()),
            by_history=_grouped((run.history_id, run.id) for run in runs.values()),
        )

    async def _all_messages(self) -> dict[str, list[Message]]:
        store = innermost(self._backend.conversations)
        assert isinstance(store, MemoryConversationStore)
        return {history: self._messages(store, history) for history in store._logs}

    def _messages(self, store: MemoryConversationStore, history: str) -> list[Message]:
        """Messages, each decoded once, since entries never change."""
        entries = store._logs[history].entries
        for entry in entries:
            if entry.number not in self._decoded:
                [self._decoded[entry.number]] = store._decode(history, [entry])
        return [self._decoded[entry.number] for entry in entries]

    async def aclose(self) -> None:
        """Nothing is open."""


def _grouped(pairs: Iterable[tuple[Any, str]]) -> dict[Any, frozenset[str]]:
    groups: dict[Any, set[str]] = {}
    for group, run_id in pairs:
        groups.setdefault(group, set()).add(run_id)
    return {group: frozenset(ids) for group, ids in groups.items()}
