"""The Redis backend: ledger and conversations over shared connections."""

from shared.backend import Backend
from shared.conversation.redis import RedisConversationStore
from shared.ledger.redis import RedisRunLedger
from shared.notification.redis import RedisNotifications
from shared.redis_client import connect, connect_for_listening
from shared.redis_keys import Keys
from shared.settings import Settings


def build_redis_backend(settings: Settings) -> Backend:
    """Runs and conversations in the Redis of the settings; connects on first use."""
    keys = Keys(settings.key_prefix)
    client = connect(settings)
    notifications = RedisNotifications(
        connect_for_listening(settings),
        keep_alive_topic=f"{settings.key_prefix}:keep_alive",
        timeout_s=settings.redis_timeout_s,
    )
    return Backend(
        ledger=RedisRunLedger(client, keys, notifications, settings),
        conversations=RedisConversationStore(client, keys, notifications),
        close=(notifications.aclose, client.aclose),
    )
