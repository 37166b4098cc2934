"""Ringing through Celery."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import anyio
import anyio.to_thread
from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Producer
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as KombuOperationalError
from redis.exceptions import RedisError

from shared.celery_app import WAKE_TASK, broker_priority, create_celery_app
from shared.errors import BrokerUnavailableError
from shared.identifier import new_tag
from shared.ledger.protocol import WakeUp
from shared.settings import Settings

_SENDERS: Final = 8
"""Threads that send at once; Celery's producers block."""
_SLOW_S: Final = 0.2
"""A ring that no thread has taken for so long gets another one: the first may hang."""
_BATCH: Final = 50
"""Rings that a thread sends before their callers are told."""
_GIVEN_UP: Final = 2
"""After so many failures in a row the broker is not asked for the rest of a batch."""

_RETRY_ONCE: Final = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
"""On a new connection: the pooled one may be of before a restart of the broker. A message that was
sent all the same rings for the second time, which costs a worker a look."""

_FAULTS: Final = (OSError, KombuError, KombuOperationalError, AMQPError, RedisError)


class _Progress:
    """When something last came of what is being sent, as `time.monotonic` has it."""

    __slots__ = ("at",)

    def __init__(self) -> None:
        self.at = time.monotonic()

    def note(self) -> None:
        self.at = time.monotonic()


class _Ring:
    """A ring on its way."""

    __slots__ = ("progress", "sent", "wake_up")

    def __init__(self, wake_up: WakeUp, progress: _Progress) -> None:
        self.wake_up = wake_up
        self.progress = progress
        """Of all threads while it waits for one, then of its own."""
        self.sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class CeleryDispatcher:
    """Sends one small task message for each ring, within `broker_timeout_s`.

    Sending is the work of a thread. Rings that come while it is busy wait for it and go together:
    threads for each of them would contend with the event loop for the interpreter. Over Redis that
    is one round trip.
    """

    is_distributed = True

    def __init__(self, settings: Settings, app: Celery | None = None) -> None:
        self._settings = settings
        self._app = app if app is not None else create_celery_app(settings)
        self._waiting: deque[_Ring] = deque()
        self._senders: set[asyncio.Task[None]] = set()
        self._limiter: anyio.CapacityLimiter | None = None
        self._progress = _Progress()

    async def ring(self, wake_ups: Sequence[WakeUp]) -> None:
        """Ring once for each run; see `Dispatcher.ring`."""
        rings = [_Ring(wake_up, self._progress) for wake_up in wake_ups]
        self._waiting += rings
        # Those that send may all hang; then this one need not wait to find out.
        if rings and (not self._senders or time.monotonic() - self._progress.at > _SLOW_S):
            self._start_sender()
        if len(rings) == 1:  # as nearly always: no task of its own for it
            await self._wait_sent(rings[0])
            return
        ended = await asyncio.gather(*map(self._wait_sent, rings), return_exceptions=True)
        for error in filter(None, ended):
            raise error

    async def aclose(self) -> None:
        """Close pooled connections."""
        for sender in self._senders:
            sender.cancel()
        await anyio.to_thread.run_sync(self._app.close)

    async def _wait_sent(self, ring: _Ring) -> None:
        limit_s, began_at = self._settings.broker_timeout_s, time.monotonic()
        help_out = asyncio.get_running_loop().call_later(_SLOW_S, self._help_out, ring)
        try:
            while not ring.sent.done():
                # One that waits behind others is not late while these are sent.
                left_s = max(began_at, ring.progress.at) + limit_s - time.monotonic()
                if left_s <= 0:
                    break
                await asyncio.wait({ring.sent}, timeout=left_s)
            if ring.sent.done():
                return ring.sent.result()
        finally:
            help_out.cancel()
            ring.sent.cancel()
        # A thread that hangs in a dead connection is left behind; what it may still send is a ring
        # for a run that the ledger answers for.
        raise BrokerUnavailableError(
            f"The broker took no message within {limit_s:g} s (AGENTS_BROKER_TIMEOUT_S). Check "
            "AGENTS_BROKER_URL, then submit again; with the same idempotency key that is safe."
        )

    def _help_out(self, ring: _Ring) -> None:
        if ring in self._waiting:
            self._start_sender()

    def _start_sender(self) -> None:
        if len(self._senders) >= _SENDERS:
            return
        sender = asyncio.create_task(self._drain(), name="rings")
        self._senders.add(sender)
        sender.add_done_callback(self._senders.discard)

    async def _drain(self) -> None:
        """Send what waits, until nothing does."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_SENDERS)
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            batch = [ring for ring in batch if not ring.sent.done()]  # some were given up
            progress = _Progress()
            for ring in batch:
                ring.progress = progress
            wake_ups = [ring.wake_up for ring in batch]
            try:
                errors = await anyio.to_thread.run_sync(
                    self._send, wake_ups, progress, limiter=self._limiter, abandon_on_cancel=True
                )
            except BaseException:
                for ring in batch:
                    ring.sent.cancel()
                raise
            for ring, error in zip(batch, errors, strict=True):
                _settle(ring.sent, error)

    def _send(self, wake_ups: Sequence[WakeUp], progress: _Progress) -> list[Exception | None]:
        """Send each; return what went wrong with it, if something did."""
        errors: list[Exception | None] = []
        is_tried_together = len(wake_ups) == 1
        while len(errors) < len(wake_ups):
            try:
                with self._app.producer_or_acquire() as producer:
                    if not is_tried_together and self._send_together(wake_ups, producer, progress):
                        return [None] * len(wake_ups)
                    is_tried_together = True
                    for wake_up in wake_ups[len(errors) :]:
                        self._send_one(wake_up, producer)
                        errors.append(None)
                        self._note(progress)
            except Exception as error:  # noqa: BLE001 - whatever it is, its caller is told
                errors.append(error)
                if all(errors[-_GIVEN_UP:]) and len(errors) >= _GIVEN_UP:
                    errors += [error] * (len(wake_ups) - len(errors))
        return errors

    # Any: the stubs do not have what it needs of a `Producer`.
    def _send_together(
        self, wake_ups: Sequence[WakeUp], producer: Any, progress: _Progress
    ) -> bool:
        """Send all of them in one round trip; return whether that is possible and went well.

        If not, some of them may have been sent. To send those again costs a worker a look.
        """
        if not producer.supports_batch_publish:
            return False
        try:
            with producer.batch():
                for wake_up in wake_ups:
                    self._send_one(wake_up, producer)
                    self._note(progress)  # the first for a queue makes it known to the broker
        except Exception:  # noqa: BLE001 - one by one it is found out whom it concerns
            return False
        finally:
            self._note(progress)
        return True

    def _note(self, progress: _Progress) -> None:
        progress.note()
        self._progress.note()

    def _send_one(self, wake_up: WakeUp, producer: Producer) -> None:
        self._app.send_task(
            WAKE_TASK,
            args=(wake_up.run_id,),
            task_id=new_tag(),
            queue=self._settings.queue_of(wake_up.agent),
            priority=broker_priority(self._settings, wake_up.priority),
            producer=producer,
            ignore_result=True,
            retry=True,
            retry_policy=_RETRY_ONCE,
        )


def _settle(sent: asyncio.Future[None], error: Exception | None) -> None:
    if sent.done():  # given up, or its caller was cancelled
        return
    if error is None:
        sent.set_result(None)
        return
    if isinstance(error, _FAULTS):
        refusal = BrokerUnavailableError(
            f"The broker refused a message ({type(error).__name__}). Check that it runs and "
            "AGENTS_BROKER_URL, then submit again; with the same idempotency key that is safe."
        )
        refusal.__cause__ = error
        error = refusal
    sent.set_exception(error)
