"""The broker as Celery wants it told: URL, transport options and TLS, made from the settings."""

from typing import Any, Final

from shared.redis_url import parse_redis_url, with_credentials
from shared.settings import Settings
from shared.tls import amqp_tls, redis_tls

PRIORITIES: Final = 10
"""0 to 9, of rings as of runs."""

_REDIS_TRANSPORT: Final = "shared.redis_transport:Transport"
"""Named and not imported: who uses RabbitMQ has no need of it."""
_SENTINELS: Final = ("redis+sentinel://", "rediss+sentinel://")


def broker_url(settings: Settings) -> str:
    """What Celery connects to, in clear. It knows sentinels under a scheme of its own."""
    url = settings.effective_broker_url
    if not url.startswith(_SENTINELS):
        return url
    place = parse_redis_url(url)
    # User and password in each of them, since each may be the one that a connection is made from.
    return ";".join(
        with_credentials(
            f"sentinel://{_bracketed(host)}:{port}/{place.database}", place.username, place.password
        )
        for host, port in place.hosts
    )


def uses_redis(settings: Settings) -> bool:
    """Whether rings go over Redis; otherwise it is RabbitMQ."""
    return settings.effective_broker_url.startswith("redis")


def transport(settings: Settings) -> str | None:
    """Celery's `broker_transport`; None for that of the URL."""
    if not uses_redis(settings) or settings.effective_broker_url.startswith(_SENTINELS):
        return None
    return _REDIS_TRANSPORT


def transport_options(settings: Settings, *, for_sending: bool) -> dict[str, Any]:
    """Celery's `broker_transport_options`."""
    options: dict[str, Any] = {}
    if for_sending:
        options |= {"max_retries": 2, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}
    if uses_redis(settings):
        options |= {
            # Kombu would write down in Redis what a worker holds, and offer it again after an hour.
            # A sweep finds a run whose ring died with its worker, and does so within seconds.
            "ack_emulation": False,
            "priority_steps": list(range(PRIORITIES)),
            "queue_order_strategy": "priority",
            "sep": ":",
            "global_keyprefix": f"{settings.key_prefix}:celery:",
            "socket_connect_timeout": settings.broker_timeout_s,
            "socket_keepalive": True,
            # Who sends tries again by himself: over connections on which redis-py does, kombu
            # refuses to send messages together.
            "retry_on_timeout": not for_sending,
        }
    if settings.effective_broker_url.startswith(_SENTINELS):
        options |= {
            "master_name": parse_redis_url(settings.effective_broker_url).primary,
            "sentinel_kwargs": _sentinel_options(settings),
        }
    return options


def tls_options(settings: Settings) -> dict[str, Any] | bool:
    """Celery's `broker_use_ssl`; False for a broker without TLS.

    Left to itself, Celery verifies nobody's certificate.
    """
    url = settings.effective_broker_url
    if url.startswith("rediss"):
        return redis_tls(settings)
    if url.startswith("amqps"):
        return amqp_tls(settings)
    return False


def _sentinel_options(settings: Settings) -> dict[str, Any]:
    password = settings.sentinel_password
    is_tls = settings.effective_broker_url.startswith("rediss")
    return {
        "username": settings.sentinel_username,
        "password": password.get_secret_value() if password is not None else None,
        "socket_timeout": settings.broker_timeout_s,
        "socket_connect_timeout": settings.broker_timeout_s,
        **({"ssl": True, **redis_tls(settings)} if is_tls else {}),
    }


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
