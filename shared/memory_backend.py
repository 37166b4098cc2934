"""Runs and conversations in the memory of this process: local mode, and fast tests."""

from shared.backend import Backend
from shared.conversation.memory import MemoryConversationStore
from shared.ledger.memory import MemoryRunLedger
from shared.memory.clock import Clock, utc_now
from shared.notification.memory import MemoryNotifications
from shared.sealing.backend import seal_backend
from shared.settings import Settings


def build_memory_backend(settings: Settings, *, clock: Clock = utc_now) -> Backend:
    """A backend that lives as long as this object, for use from one event loop.

    `clock` answers the time with its zone; a test moves it instead of waiting.
    """
    notifications = MemoryNotifications()
    backend = Backend(
        ledger=MemoryRunLedger(notifications, settings, clock=clock),
        conversations=MemoryConversationStore(notifications, clock=clock),
        close=(notifications.aclose,),
    )
    return seal_backend(backend, settings)
