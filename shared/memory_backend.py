"""Runs and conversations in the memory of this process: local mode, and fast tests."""

from urllib.parse import urlsplit

from shared.archive import open_archive
from shared.backend import Backend
from shared.conversation.memory import MemoryConversationStore
from shared.directory.memory import MemoryConversationDirectory
from shared.directory.record_table import RecordTable
from shared.errors import ConfigurationError
from shared.ledger.memory import MemoryRunLedger
from shared.memory.clock import Clock, utc_now
from shared.notification.memory import MemoryNotifications
from shared.sealing.backend import seal_backend, seal_of
from shared.settings import Settings
from shared.snapshot.memory import MemorySnapshotStore
from shared.snapshot.opening import open_snapshots


def build_memory_backend(settings: Settings, *, clock: Clock = utc_now) -> Backend:
    """A backend that lives as long as this object, for use from one event loop.

    `clock` answers the time with its zone; a test moves it instead of waiting.
    """
    notifications = MemoryNotifications()
    archive = open_archive(settings)
    records = RecordTable(clock)
    ledger = MemoryRunLedger(notifications, settings, clock=clock, records=records)
    backend = Backend(
        ledger=ledger,
        conversations=MemoryConversationStore(notifications, clock=clock),
        close=(
            notifications.aclose,
            *((archive.conversations.aclose,) if archive is not None else ()),
        ),
        directory=MemoryConversationDirectory(records, ledger.active_run),
        archive=archive,
        snapshots=open_snapshots(settings, seal_of(settings)) or MemorySnapshotStore(),
    )
    return seal_backend(backend, settings)


def open_memory_conversations(url: str, _: Settings) -> MemoryConversationStore:
    """Conversations of this process and event loop, empty at the beginning.

    Raises:
        ConfigurationError: The URL says more than ``memory://``.
    """
    parts = urlsplit(url)
    if parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(
            "memory:// takes nothing behind it: each store is a new and empty one."
        )
    return MemoryConversationStore(MemoryNotifications())
