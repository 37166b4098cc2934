"""Runs and conversations in the memory of this process: local mode, and fast tests."""

from shared.backend import Backend
from shared.conversation.memory import MemoryConversationStore
from shared.ledger.memory import MemoryRunLedger
from shared.memory.clock import Clock, utc_now
from shared.notification.memory import MemoryNotifications
from shared.settings import Settings


def build_memory_backend(settings: Settings, *, clock: Clock = utc_now) -> Backend:
    """A backend that lives as long as this object, for use from one event loop.

    `clock` answers the time with its zone; a test moves it instead of waiting.
    """
    notifications = MemoryNotifications()
    return Backend(
        ledger=MemoryRunLedger(notifications, settings, clock=clock),
        conversations=MemoryConversationStore(notifications, clock=clock),
        close=(notifications.aclose,),
    )
