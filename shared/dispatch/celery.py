"""Ringing through Celery."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
from amqp.exceptions import AMQPError
from celery import Celery
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as KombuOperationalError
from redis.exceptions import RedisError

from shared.celery_app import WAKE_TASK, broker_priority, create_celery_app
from shared.errors import BrokerUnavailableError
from shared.ledger.protocol import WakeUp
from shared.settings import Settings

_SENDERS = 8
"""Threads that send at once; Celery's producers block."""

_RETRY_ONCE: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""On a new connection: the pooled one may be of before a restart of the broker. A message that was
sent all the same rings for the second time, which costs a worker a look."""


class CeleryDispatcher:
    """Sends one small task message for each ring, from a thread, within `broker_timeout_s`."""

    is_distributed = True

    def __init__(self, settings: Settings, app: Celery | None = None) -> None:
        self._settings = settings
        self._app = app if app is not None else create_celery_app(settings)
        self._limiter: anyio.CapacityLimiter | None = None

    async def ring(self, wake_ups: Sequence[WakeUp]) -> None:
        """Ring once for each run; see `Dispatcher.ring`."""
        if not wake_ups:
            return
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_SENDERS)
        send = partial(self._send, tuple(wake_ups))
        try:
            with anyio.fail_after(self._settings.broker_timeout_s):
                # A thread that hangs in a dead connection is left behind; what it may still send
                # is a ring for a run that the ledger answers for.
                await anyio.to_thread.run_sync(send, limiter=self._limiter, abandon_on_cancel=True)
        except TimeoutError as error:
            raise BrokerUnavailableError(
                f"The broker took no message within {self._settings.broker_timeout_s:g} s "
                "(AGENTS_BROKER_TIMEOUT_S). Check AGENTS_BROKER_URL, then submit again; with the "
                "same idempotency key that is safe."
            ) from error

    async def aclose(self) -> None:
        """Close pooled connections."""
        await anyio.to_thread.run_sync(self._app.close)

    def _send(self, wake_ups: Sequence[WakeUp]) -> None:
        try:
            with self._app.producer_or_acquire() as producer:
                for wake_up in wake_ups:
                    self._app.send_task(
                        WAKE_TASK,
                        args=(wake_up.run_id,),
                        queue=self._settings.queue_of(wake_up.agent),
                        priority=broker_priority(self._settings, wake_up.priority),
                        producer=producer,
                        ignore_result=True,
                        retry=True,
                        retry_policy=_RETRY_ONCE,
                    )
        except (OSError, KombuError, KombuOperationalError, AMQPError, RedisError) as error:
            raise BrokerUnavailableError(
                f"The broker refused a message ({type(error).__name__}). Check that it runs and "
                "AGENTS_BROKER_URL, then submit again; with the same idempotency key that is safe."
            ) from error
