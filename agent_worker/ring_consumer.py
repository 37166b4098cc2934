"""The consumer: takes rings from the broker, and nothing else that Celery could be told there.

Who can reach the broker can put any message on the queues and, where remote control is on, send any
command. So messages do not go through Celery's execution of tasks, which would wait for times,
call further tasks and report results as the message says: a run id is read, and a thread wakes its
run. Of remote control only what looks at a worker is answered, nothing that changes it.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import structlog
from celery import Celery
from celery.worker.consumer import Consumer
from kombu import compression

from shared.celery_app import WAKE_TASK
from shared.errors import CorruptEntryError
from shared.ring import read_ring

INSPECTION: Final = frozenset(
    {
        "ping", "stats", "clock", "active_queues", "registered",
        "active", "dump_active", "reserved", "dump_reserved", "scheduled", "dump_schedule",
    }
)  # fmt: skip
"""The commands that are answered. `conf` and `report` would show settings."""

_REFUSAL: Final = "Not allowed. Commands that change a worker are off; stop it with SIGTERM."

log = structlog.get_logger()

Wake = Callable[[str], object]


def consume_rings(app: Celery, wake: Wake) -> None:
    """Let the workers of an app do nothing but call `wake` with the run id of each ring.

    `wake` is called in a thread of the pool; a ring is acknowledged when that begins.
    """
    app.conf.update(worker_consumer=partial(RingConsumer, wake))
    app.finalize()
    for name in set(app.tasks) - {WAKE_TASK}:
        app.tasks.unregister(name)
    # A kilobyte on the queue could become gigabytes in memory, before anybody looks at it.
    decoders: dict[str, object] = vars(compression)["_decoders"]
    decoders.clear()


_Consumer: Any = Consumer  # the stubs know little of it


class RingConsumer(_Consumer):  # type: ignore[misc]  # see above
    """Celery's consumer with another idea of what a message is."""

    def __init__(self, wake: Wake, *arguments: Any, **options: Any) -> None:
        self._wake = wake
        super().__init__(*arguments, **options)
        _restrict_control(self.steps)

    def create_task_handler(self, *_: Any, **__: Any) -> Callable[[Any], None]:
        """What is called with each message of the queues."""
        return self._on_ring

    def on_decode_error(self, message: Any, exc: BaseException) -> None:
        """Called by kombu for what is no message at all, and for a broken remote command."""
        self._refuse(message, type(exc).__name__)

    def _on_ring(self, message: Any) -> None:
        try:
            run_id = read_ring(
                message.body,
                message.headers,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
            )
        except CorruptEntryError as error:
            self._refuse(message, str(error))
            return
        self.pool.apply_async(
            self._take, (run_id,), accept_callback=partial(self._accept, message), callback=_nothing
        )

    def _refuse(self, message: Any, reason: str) -> None:
        log.warning("ring.malformed", reason=reason)
        self._acknowledge(message)

    def _accept(self, message: Any, *_: object) -> None:
        """Called in the thread, which must not use the connection itself."""
        self.call_soon_ack(partial(self._acknowledge, message))

    def _acknowledge(self, message: Any) -> None:
        if hasattr(message, "ack_log_error"):
            message.ack_log_error(log, self.connection_errors)

    def _take(self, run_id: str) -> None:
        try:
            self._wake(run_id)
        except Exception:
            log.exception("ring.failed", for_run=run_id)  # a sweep finds the run


def _restrict_control(steps: Iterable[Any]) -> None:
    for step in steps:
        if (box := getattr(step, "box", None)) is not None:
            box.node.handlers = _Inspection(
                (name, handler) for name, handler in box.node.handlers.items() if name in INSPECTION
            )
            box.on_message = partial(_on_command, box.node)


def _on_command(node: Any, body: object, _message: object) -> None:
    """Follow a remote command.

    Celery itself would open the mailbox anew after one that is none, and
    hear nothing from then on.
    """
    try:
        node.handle_message(body)
    except Exception as error:  # noqa: BLE001  anybody can send anything
        log.warning("control.malformed", error=type(error).__name__)


class _Inspection(dict[Any, Callable[..., Any]]):
    """The handlers of remote commands, with a refusal for those that are none of them."""

    def __missing__(self, command: object) -> Callable[..., Any]:
        log.warning("control.refused", command=str(command)[:100])
        return _refuse_command


def _refuse_command(_state: object, **_arguments: object) -> dict[str, str]:
    return {"error": _REFUSAL}


def _nothing(*_: object) -> None:
    """Celery wants to tell somebody that a call has ended."""
