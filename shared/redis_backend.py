"""The Redis backend: ledger and conversations over shared connections."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from pydantic import SecretStr
from redis.asyncio import Redis

from shared.archive import open_archive
from shared.backend import Backend
from shared.card.redis import RedisAgentCards
from shared.conversation.redis import HINT_BYTES, RedisConversationStore
from shared.directory.redis import RedisConversationDirectory
from shared.errors import ConfigurationError
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
from shared.redis_url import RedisPlace, parse_redis_url
from shared.sealing.backend import seal_backend, seal_of
from shared.settings import Settings
from shared.snapshot.opening import open_snapshots
from shared.snapshot.redis import RedisSnapshotStore


def build_redis_backend(settings: Settings) -> Backend:
    """Runs and conversations in the Redis of the settings; connects on first use.

    Raises:
        ConfigurationError: The settings ask for encryption or compression that is not possible.
    """
    keys = Keys(settings.key_prefix)
    client = connect(settings)
    archive, seal = open_archive(settings), seal_of(settings)
    notifications = _notifications(settings, client)
    backend = Backend(
        ledger=RedisRunLedger(client, keys, notifications, settings),
        conversations=_conversations(settings, client, notifications),
        close=(
            notifications.aclose,
            client.aclose,
            *((archive.conversations.aclose,) if archive is not None else ()),
        ),
        find_risks=partial(find_risks, client),
        directory=RedisConversationDirectory(client, keys, replicas=wanted_replicas(settings)),
        archive=archive,
        cards=RedisAgentCards(client, keys, seal=seal),
        snapshots=open_snapshots(settings, seal)
        or RedisSnapshotStore(client, keys, seal=seal, replicas=wanted_replicas(settings)),
    )
    return seal_backend(backend, settings)


def open_redis_conversations(url: str, settings: Settings) -> RedisConversationStore:
    """Conversations in the Redis of a URL, over connections of their own.

    Everything but the place is as the settings say: key prefix, TLS, time limits, retention. User
    and password of the settings are for the Redis of the settings; another one has its own in the
    URL.

    Raises:
        ConfigurationError: The URL is none of Redis. The message does not quote it.
    """
    place = _place(url)
    elsewhere: dict[str, object] = {"redis_url": SecretStr(url)}
    if place.hosts != _place(settings.redis_url.get_secret_value()).hosts:
        elsewhere |= {"redis_username": None, "redis_password": None}
    settings = settings.model_copy(update=elsewhere)
    client = connect(settings)
    notifications = _notifications(settings, client)
    return _conversations(
        settings, client, notifications, close=(notifications.aclose, client.aclose)
    )


def _place(url: str) -> RedisPlace:
    try:
        return parse_redis_url(url)
    except ValueError as error:
        raise ConfigurationError(
            f"The URL of conversations is none of Redis ({error}); it looks like "
            "redis://host:6379/0. In a password, write characters like / ? # @ as %2F %3F %23 %40."
        ) from error


def _notifications(settings: Settings, client: Redis) -> RedisNotifications:
    return RedisNotifications(
        connect_for_listening(settings, client),
        keep_alive_topic=f"{settings.key_prefix}:keep_alive",
        timeout_s=settings.redis_timeout_s,
        explain=listening_error,
    )


def _conversations(
    settings: Settings,
    client: Redis,
    notifications: RedisNotifications,
    *,
    close: Sequence[Callable[[], Awaitable[None]]] = (),
) -> RedisConversationStore:
    place = parse_redis_url(settings.redis_url.get_secret_value())
    return RedisConversationStore(
        client,
        Keys(settings.key_prefix),
        notifications,
        replicas=wanted_replicas(settings),
        ttl_s=settings.conversation_ttl_s,
        max_messages=settings.conversation_max_messages,
        hint_bytes=HINT_BYTES if place.topology == "server" else 0,
        close=close,
    )
