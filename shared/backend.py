"""A backend: one consistent set of the places where runs and conversations are kept."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Self

from shared.card.memory import MemoryAgentCards
from shared.card.protocol import AgentCards
from shared.conversation.protocol import ConversationStore
from shared.directory.protocol import ConversationDirectory
from shared.errors import ConfigurationError, NotDistributedError
from shared.ledger.protocol import RunLedger
from shared.risk import Inspectable, Risk
from shared.snapshot.memory import MemorySnapshotStore
from shared.snapshot.protocol import SnapshotStore


@dataclass(frozen=True, slots=True)
class Archive:
    """Where conversations are put that are not used any more.

    Attributes:
        name: What records say about where their messages are. Without secrets; it stays the same
            for as long as a record names it.
        conversations: The store.
    """

    name: str
    conversations: ConversationStore


async def _no_risks() -> list[Risk]:
    return []


async def _ready() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Backend:
    """The ledger and the conversation store that a client or worker uses."""

    ledger: RunLedger
    conversations: ConversationStore
    close: tuple[Callable[[], Awaitable[None]], ...] = ()
    """What gives the connections back, in order."""
    find_risks: Callable[[], Awaitable[list[Risk]]] = _no_risks
    """What is unsafe about the stores, as far as they tell."""
    prepare: Callable[[], Awaitable[None]] = _ready
    """What a worker waits for before it takes runs; see `shared.risk.Inspectable`."""
    conversations_at: str | None = None
    """Where conversations are, if not beside the runs; without user and password."""
    directory: ConversationDirectory | None = None
    """Records of managed conversations, beside the ledger's runs."""
    archive: Archive | None = None
    """Where conversations can be archived."""
    cards: AgentCards = field(default_factory=MemoryAgentCards)
    """What workers tell of their agents."""
    snapshots: SnapshotStore = field(default_factory=MemorySnapshotStore)
    """Where snapshots are kept."""

    def opened_directory(self) -> ConversationDirectory:
        """The directory.

        Raises:
            ConfigurationError: This backend has none.
        """
        if self.directory is None:
            raise ConfigurationError(
                "This backend keeps no records of conversations; build it with a directory (see "
                "Backend.directory), as build_redis_backend and build_memory_backend do."
            )
        return self.directory

    def check_distributed(self) -> None:
        """Refuse stores that other processes cannot see.

        Raises:
            NotDistributedError: One of them lives in this process only.
        """
        for what, store in (("run ledger", self.ledger), ("conversation", self.conversations)):
            if not store.is_distributed:
                raise NotDistributedError(
                    f"The {what} is in the memory or on the disk of this machine, which remote "
                    "workers cannot see. Use Redis (set AGENTS_REDIS_URL, conversation backend "
                    "'redis') or PostgreSQL (AGENTS_CONVERSATION_URL), or run everything in this "
                    "process with AsyncAgentClient.local(...)."
                )

    def with_conversations(self, conversations: ConversationStore) -> Self:
        """The same with conversations elsewhere, which are closed with it, before the rest."""
        return replace(self, conversations=conversations, close=(conversations.aclose, *self.close))

    def inspecting(self, store: object) -> Self:
        """The same, which prepares this store and finds its risks, too, if it is `Inspectable`.

        That is the store at the bottom: what is wrapped around it knows of no server.
        """
        if not isinstance(store, Inspectable):
            return self
        find_risks, prepare, inspected = self.find_risks, self.prepare, store

        async def find_all_risks() -> list[Risk]:
            return [*await find_risks(), *await inspected.find_risks()]

        async def prepare_all() -> None:
            await prepare()
            await inspected.prepare()

        return replace(self, find_risks=find_all_risks, prepare=prepare_all)

    async def aclose(self) -> None:
        """Give all connections back."""
        for close in self.close:
            await close()
