"""The worker process: Celery hears the rings, the runtime executes the runs.

    main thread       Celery's consumer and its signal handlers
    8 pool threads    each takes one ring and waits until the runtime has leased the run
    runtime thread    one event loop with all runs on it

SIGTERM, SIGHUP, SIGINT and SIGQUIT are one wish, to leave: the runtime stops taking at once, which
frees the pool threads; Celery stops consuming; then the runs are handed over. In this order, since
a ring for a run that was handed over would otherwise be heard by the very worker that is leaving.
Who supervises processes may repeat SIGTERM, which changes nothing. Who sits at a keyboard and
repeats Ctrl-C does not want to wait for tools, so their runs are handed over as they are; pressed
once more, the process ends on the spot, and its runs are found once the ledger misses it.
"""

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import structlog
from celery import Celery, signals
from celery.bootsteps import StartStopStep
from celery.exceptions import SecurityWarning
from celery.platforms import EX_FAILURE, EX_OK
from celery.worker import state as celery_state
from kombu.transport.virtual import base as virtual

from agent_worker.announcement import new_worker_id, queues_of
from agent_worker.collector import tune_collector
from agent_worker.definition import AgentDefinition
from agent_worker.leave_signals import LEAVE_SIGNALS, URGENT_SIGNALS
from agent_worker.ring_consumer import consume_rings
from agent_worker.runtime_thread import RuntimeThread
from shared.backend_building import build_backend
from shared.celery_app import WAKE_TASK, create_celery_app
from shared.dispatch.celery import CeleryDispatcher
from shared.errors import ConfigurationError
from shared.settings import Settings

WAKE_THREADS: Final = 8
"""A thread is held until its run is leased, so a few serve any number of runs."""
CONSUMER_STOP_S: Final = 0.5
"""How long Celery may take to stop consuming before runs are handed over all the same."""
BROKER_LEFT_S: Final = 0.5
"""How long Celery may take to let go of the broker once nothing is left to do. It would wait for a
broker that hangs for ever."""
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What kombu raises for something on the queue that is no message. Celery gets over it as it gets
over a lost connection; otherwise, a few bytes on a queue would end one worker after another."""
THREADS_LEFT_S: Final = 0.3
"""How long the process waits for threads that end by themselves."""

log = structlog.get_logger()


def run_worker(
    settings: Settings,
    definitions: Sequence[AgentDefinition],
    *,
    on_announced: Callable[[], None] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Serve `definitions` until a signal arrives; return the exit code. Main thread only.

    `on_announced` is called once the ledger knows the worker, by when nothing of its set-up can be
    wrong any more; `on_ready` with the worker's id once rings are heard, for which the broker has
    to be there as well. The code is 0 where somebody
    asked for the end (a signal, Celery's remote control), otherwise 1. Where a sync tool
    still blocks a thread, the process exits in here: Python would wait for it.

    Raises:
        ConfigurationError: There is nothing to serve, two definitions have one name, or a store
            refuses the credentials of its URL, or is of a newer release.
    """
    worker = Worker(settings, definitions, on_announced=on_announced, on_ready=on_ready)
    code = worker.run()
    if left := _threads_left():
        log.warning("threads.left", threads=left)
        _exit_now(code)
    return code


class Worker:
    """One worker process. `run` can be called once."""

    def __init__(
        self,
        settings: Settings,
        definitions: Sequence[AgentDefinition],
        *,
        on_announced: Callable[[], None] | None = None,
        on_ready: Callable[[str], None] | None = None,
    ) -> None:
        self.id = new_worker_id()
        self._settings = settings
        self._on_announced = on_announced
        self._on_ready = on_ready
        self._is_leaving = False
        self._urgency = 0
        self._has_consumed = threading.Event()
        self._consumer: Any = None
        self._runtime = RuntimeThread(
            settings,
            _by_name(definitions),
            open_backend=build_backend,
            open_dispatcher=CeleryDispatcher,
            on_end=self._on_runtime_end,
            worker_id=self.id,
        )
        self._app = self._build_app(queues_of(definitions, settings))

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        celery_state.should_stop = None
        for number in LEAVE_SIGNALS:
            signal.signal(number, self._on_signal)
        signals.setup_logging.connect(_keep_logging, weak=False)
        signals.worker_ready.connect(self._on_consumer_ready, weak=False)
        logging.getLogger(virtual.__name__).addFilter(_is_news)
        try:
            self._runtime.start()
            if self._runtime.failure is None and not self._is_leaving:
                if self._on_announced is not None:
                    self._on_announced()
                tune_collector()
                self._consume()
        finally:
            self._has_consumed.set()
            self._runtime.hand_over()
            self._runtime.join()
        log.info("worker.exited", worker_id=self.id, code=self._exit_code)
        if isinstance(self._runtime.failure, ConfigurationError):
            raise self._runtime.failure
        return self._exit_code

    @property
    def _exit_code(self) -> int:
        is_asked_to = self._is_leaving or getattr(self._consumer, "exitcode", None) == EX_OK
        return EX_OK if is_asked_to and self._runtime.failure is None else EX_FAILURE

    def _consume(self) -> None:
        """Consume until a signal arrives or the runtime ends."""
        settings = self._settings
        # About running as root, which Celery advises against in a text on options that this program
        # does not have. Whether that matters is for whoever deploys it; only JSON is accepted.
        warnings.simplefilter("ignore", SecurityWarning)
        consumer: Any = self._app.Worker(
            hostname=f"{settings.key_prefix}@{self.id}",
            pool="threads",
            concurrency=WAKE_THREADS,
            quiet=True,
            task_events=settings.remote_control,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=not settings.remote_control,
        )
        consumer.consumer.channel_errors += _UNREADABLE
        consumer.install_platform_tweaks = _keep_signals
        self._consumer = consumer
        consumer.start()

    def _build_app(self, queues: Sequence[str]) -> Celery:
        app = create_celery_app(self._settings, queues)
        app.conf.update(
            # A broker that answers with an error, as one that is loading its data does, is waited
            # for like one that does not answer.
            broker_channel_error_retry=True,
            # Rings are acknowledged early, so there is nothing to cancel; but Celery says at
            # length on each lost connection that it does not.
            worker_cancel_long_running_tasks_on_connection_loss=True,
        )
        # Not shared, or Celery would give it to every app of the process, the dispatcher's too.
        app.task(name=WAKE_TASK, ignore_result=True, shared=False)(self._runtime.wake)
        consume_rings(app, self._runtime.wake)
        app.steps["worker"].add(_step_that_hands_over(self._runtime))
        return app

    def _on_consumer_ready(self, **_: Any) -> None:
        log.info("worker.ready", worker_id=self.id)
        if self._on_ready is not None:
            self._on_ready(self.id)

    def _on_signal(self, number: int, _frame: object) -> None:
        """Leave; see the module. Nothing in a signal handler may block or take a lock."""
        if self._is_leaving:
            self._urgency += number in URGENT_SIGNALS
            if self._urgency > 1:
                os._exit(EX_FAILURE)
            if self._urgency:
                self._runtime.hurry()
            return
        self._is_leaving = True
        celery_state.should_stop = EX_OK  # type: ignore[assignment]  # stubs: only None
        self._runtime.stop_taking()
        self._runtime.call_soon(self._interrupt_consumer)
        self._runtime.hand_over(CONSUMER_STOP_S)

    def _on_runtime_end(self) -> None:
        """Called on the runtime's thread; a worker without a runtime must not swallow rings."""
        if celery_state.should_stop is None:
            celery_state.should_stop = EX_FAILURE  # type: ignore[assignment]  # stubs: only None
        self._interrupt_consumer()
        if not self._has_consumed.wait(BROKER_LEFT_S):
            log.warning("broker.left_hanging", worker_id=self.id, code=self._exit_code)
            _exit_now(self._exit_code)

    def _interrupt_consumer(self) -> None:
        """Let Celery's loop look at its stop flag now; it may be waiting for the broker."""
        hub = getattr(self._consumer, "hub", None)
        if hub is not None:
            hub.call_soon(_nothing)


def _step_that_hands_over(runtime: RuntimeThread) -> type[StartStopStep]:
    """A part of Celery's worker that is stopped after its consumer and before its threads."""

    class HandOver(StartStopStep):
        requires = ("celery.worker.components:Pool",)

        def stop(self, parent: Any) -> None:  # noqa: ARG002  Celery passes its worker
            runtime.stop_taking()
            runtime.hand_over()

        terminate = stop

    return HandOver


def _by_name(definitions: Sequence[AgentDefinition]) -> dict[str, AgentDefinition]:
    agents = {definition.name: definition for definition in definitions}
    if not agents:
        raise ConfigurationError("There is no agent to serve; name a module that holds one.")
    if len(agents) < len(definitions):
        raise ConfigurationError(
            "Two agents have one name, so that runs could not be told apart; rename one of "
            f"{sorted(definition.name for definition in definitions)}."
        )
    return agents


def _keep_logging(**_: Any) -> None:
    """Connected to Celery's `setup_logging`, which then leaves logging as it is."""


def _keep_signals(_worker: object) -> None:
    """In the place of what installs Celery's signal handlers.

    They print plain text into the log, restart the process on SIGHUP, and on Ctrl-C drop what runs.
    """


def _is_news(record: logging.LogRecord) -> bool:
    """Kombu warns of each message that it puts back on the queue because nobody consumes any more.

    While a worker leaves, that is what shall happen to the rings that still reach it.
    """
    return record.msg != virtual.W_NO_CONSUMERS or celery_state.should_stop is None


def _nothing() -> None:
    """What a loop is given to do when it shall only wake up."""


def _threads_left() -> list[str]:
    """Names of threads that would keep the interpreter from exiting."""
    deadline = time.monotonic() + THREADS_LEFT_S
    main = threading.main_thread()
    threads = [thread for thread in threading.enumerate() if thread is not main]
    for thread in threads:
        if not thread.daemon:
            thread.join(max(0.0, deadline - time.monotonic()))
    return [thread.name for thread in threads if thread.is_alive() and not thread.daemon]


def _exit_now(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
