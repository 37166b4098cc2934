"""Runs and conversations in the memory of this process: local mode, and fast tests."""

from shared.archive import open_archive
from shared.backend import Backend
from shared.conversation.memory import MemoryConversationStore
from shared.directory.memory import MemoryConversationDirectory
from shared.directory.record_table import RecordTable
from shared.ledger.memory import MemoryRunLedger
from shared.memory.clock import Clock, utc_now
from shared.notification.memory import MemoryNotifications
from shared.settings import Settings


def build_memory_backend(settings: Settings, *, clock: Clock = utc_now) -> Backend:
    """A backend that lives as long as this object, for use from one event loop.

    `clock` answers the time with its zone; a test moves it instead of waiting.
    """
    notifications = MemoryNotifications()
    archive = open_archive(settings)
    records = RecordTable(clock)
    ledger = MemoryRunLedger(notifications, settings, clock=clock, records=records)
    return Backend(
        ledger=ledger,
        conversations=MemoryConversationStore(notifications, clock=clock),
        close=(
            notifications.aclose,
            *((archive.conversations.aclose,) if archive is not None else ()),
        ),
        directory=MemoryConversationDirectory(records, ledger.active_run),
        archive=archive,
    )
