"""The Redis backend: ledger and conversations over shared connections."""

from functools import partial

from shared.archive import open_archive
from shared.backend import Backend
from shared.conversation.redis import RedisConversationStore
from shared.directory.redis import RedisConversationDirectory
from shared.ledger.redis import RedisRunLedger
from shared.notification.redis import RedisNotifications
from shared.redis_client import (
    connect,
    connect_for_listening,
    listening_error,
    wanted_replicas,
)
from shared.redis_keys import Keys
from shared.redis_risks import find_risks
from shared.settings import Settings


def build_redis_backend(settings: Settings) -> Backend:
    """Runs and conversations in the Redis of the settings; connects on first use."""
    keys = Keys(settings.key_prefix)
    client = connect(settings)
    archive = open_archive(settings)
    notifications = RedisNotifications(
        connect_for_listening(settings, client),
        keep_alive_topic=f"{settings.key_prefix}:keep_alive",
        timeout_s=settings.redis_timeout_s,
        explain=listening_error,
    )
    return Backend(
        ledger=RedisRunLedger(client, keys, notifications, settings),
        conversations=RedisConversationStore(
            client,
            keys,
            notifications,
            replicas=wanted_replicas(settings),
            ttl_s=settings.conversation_ttl_s,
            max_messages=settings.conversation_max_messages,
        ),
        close=(
            notifications.aclose,
            client.aclose,
            *((archive.conversations.aclose,) if archive is not None else ()),
        ),
        find_risks=partial(find_risks, client),
        directory=RedisConversationDirectory(client, keys, replicas=wanted_replicas(settings)),
        archive=archive,
    )
