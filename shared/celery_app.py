"""The Celery app: how workers are rung.

A ring is a task message with a run id. It is acknowledged as soon as a worker starts on it, so
nothing depends on how long a broker lets a message stay unacknowledged: what must not be lost is in
the ledger, not on the queue.
"""

from collections.abc import Iterable
from typing import Any, Final

from celery import Celery
from kombu import Connection, Queue

from shared.celery_broker import (
    PRIORITIES,
    broker_url,
    tls_options,
    transport,
    transport_options,
    uses_redis,
)
from shared.settings import Settings

WAKE_TASK: Final = "celery_agents.wake"
"""The only task: ``wake(run_id)``. Part of the wire format between versions."""

LOWEST_PRIORITY: Final = PRIORITIES - 1


class _AgentsApp(Celery):
    """An app whose broker is that of the settings and that has no result backend.

    Celery itself would rather believe CELERY_BROKER_URL and CELERY_RESULT_BACKEND, which are there
    for another app in many an app server's environment: rings would go where nobody hears them.
    """

    def __init__(self, name: str, broker_url: str) -> None:
        self._broker_url = broker_url
        super().__init__(name, broker=broker_url, set_as_current=False)
        self.backend_cls = "disabled://"

    def connection_for_read(self, url: str | None = None, **options: Any) -> Connection:
        return super().connection_for_read(url or self._broker_url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        return super().connection_for_write(url or self._broker_url, **options)


def create_celery_app(settings: Settings, queues: Iterable[str] = ()) -> Celery:
    """Build the app that clients send with and workers consume with. Nothing connects yet.

    `queues` are those to consume; an app without any is for sending, and gives a broker that is
    down up after a few quick tries instead of waiting for it as a consumer has to.
    """
    queues = tuple(queues)
    app = _AgentsApp("celery_agents", broker_url(settings))
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        # More would be held back by a busy worker while another one is idle.
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_enable_remote_control=settings.remote_control,
        worker_send_task_events=settings.remote_control,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=settings.broker_timeout_s,
        broker_transport=transport(settings),
        broker_transport_options=transport_options(settings, for_sending=not queues),
        broker_use_ssl=tls_options(settings),
        task_default_queue=settings.key_prefix,
        task_default_exchange=settings.key_prefix,
        task_default_routing_key=settings.key_prefix,
        task_create_missing_queues=True,
        task_queue_max_priority=LOWEST_PRIORITY,
        task_queues=[build_queue(name) for name in queues] or None,
        enable_utc=True,
    )
    return app


def build_queue(name: str) -> Queue:
    """A durable queue with priorities, declared alike by senders and consumers."""
    return Queue(
        name, routing_key=name, queue_arguments={"x-max-priority": LOWEST_PRIORITY}, durable=True
    )


def broker_priority(settings: Settings, priority: int) -> int:
    """Translate our priority (0 first) into the broker's, since RabbitMQ serves 9 first."""
    if uses_redis(settings):
        return priority
    return LOWEST_PRIORITY - priority
