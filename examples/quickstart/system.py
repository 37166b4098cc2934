"""A system on this machine: Redis, unless there is one to use, and a worker process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pydantic import SecretStr

from agent_client import AgentClient, Settings
from examples.quickstart.process import OwnedProcess
from shared.embedded_redis import EmbeddedRedis
from shared.errors import StoreUnavailableError, UnavailableError

REPOSITORY: Final = Path(__file__).parents[2]
AGENTS_MODULE: Final = "examples.agents"
URL_VARIABLE: Final = "AGENTS_REDIS_URL"
PREFERRED_PORT: Final = 16379
"""Redis's own with a one before it, so that the address is the same the next time."""
PREFERRED_URL: Final = f"redis://127.0.0.1:{PREFERRED_PORT}/0"
INTERRUPTIONS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a kill, and a terminal that was closed."""

_READY_S: Final = 30.0
_POLL_S: Final = 0.05
PATIENCE_S: Final = 15.0
"""A worker hands its runs over first, within AGENTS_HANDOVER_GRACE_S."""


class WorkerNotReadyError(UnavailableError):
    """The worker process ended, or did not announce itself in time."""


class System:
    """Redis and a worker, with their data and logs in `folder`.

    Each has a session of its own: no Ctrl-C and no end of a terminal reaches it, only `stop`.

    Attributes:
        url: Where Redis is.
        redis: The embedded server; None where AGENTS_REDIS_URL names another one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = find_url()
        self.redis: EmbeddedRedis | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def settings(self) -> Settings:
        """For a client of this system."""
        return Settings(redis_url=SecretStr(self.url))

    @property
    def worker_log(self) -> Path:
        """The file that the worker logs to."""
        return self.folder / "worker.log"

    @property
    def processes(self) -> tuple[OwnedProcess, ...]:
        """What runs, in the order in which it is to be stopped."""
        started = []
        if self._worker is not None and self._worker.poll() is None:
            started.append(OwnedProcess.find("worker", self._worker.pid))
        if self.redis is not None and self.redis.is_running:
            started.append(OwnedProcess.find("redis", self.redis.pid))
        return tuple(process for process in started if process is not None)

    def start_redis(self, ports: Sequence[int] = (0,)) -> None:
        """Start the embedded server, unless there is another one to use, on the first free port.

        Raises:
            ConfigurationError: There is no binary of a server on this machine.
            StoreUnavailableError: It does not start.
        """
        if self.url:
            return
        for port in ports:
            try:
                self.redis = EmbeddedRedis(self.folder / "redis", port).start()
            except StoreUnavailableError:
                if port == ports[-1]:
                    raise
            else:
                self.url = self.redis.url
                return

    def start_worker(self) -> None:
        """Start a worker process that serves the example agents."""
        with self.worker_log.open("ab") as log:
            self._log_start = log.tell()
            self._worker = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "agent_worker.cli", "start", AGENTS_MODULE],
                cwd=REPOSITORY,
                env={"AGENTS_LOG_FORMAT": "console", **os.environ, URL_VARIABLE: self.url},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> float:
        """Wait for the worker's first heartbeat; return how many seconds that took.

        Raises:
            WorkerNotReadyError: It ended instead, or took too long.
            StoreUnavailableError: Redis cannot be reached.
        """
        started = time.monotonic()
        with AgentClient(self.settings) as client:
            while self._worker is None or not _has_beaten(client, self._worker.pid):
                if self._worker is None or self._worker.poll() is not None:
                    raise WorkerNotReadyError("The worker ended before it was ready.")
                if time.monotonic() - started > _READY_S:
                    raise WorkerNotReadyError(f"The worker was not ready within {_READY_S:g} s.")
                time.sleep(_POLL_S)
        return time.monotonic() - started

    def stop(self) -> None:
        """Stop what was started, the worker first, since it says goodbye to Redis."""
        with _deaf():
            for process in self.processes:
                process.stop(PATIENCE_S)
            if self._worker is not None:
                self._worker.wait()
            if self.redis is not None:
                self.redis.stop()

    def last_words(self, lines: int = 20) -> str:
        """The end of what the worker logged, with a heading; empty if it was never started."""
        if self._worker is None:
            return ""
        log = self.worker_log.read_bytes()[self._log_start :].decode(errors="replace")
        return "\n".join(["The worker's log ends with:", *log.splitlines()[-lines:]])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()


def find_url() -> str:
    """The Redis that AGENTS_REDIS_URL names; empty where an embedded one is to be started."""
    url = os.environ.get(URL_VARIABLE, "")
    with socket.socket() as probe:
        probe.settimeout(1)
        # What `up` told somebody to export, and that has gone since, must not be in the way.
        is_stale = url == PREFERRED_URL and probe.connect_ex(("127.0.0.1", PREFERRED_PORT)) != 0
    return "" if is_stale else url


@contextmanager
def _deaf() -> Iterator[None]:
    """Hear no Ctrl-C: a second one, out of impatience, would leave processes behind."""
    before = [signal.signal(number, signal.SIG_IGN) for number in INTERRUPTIONS]
    try:
        yield
    finally:
        for number, handler in zip(INTERRUPTIONS, before, strict=True):
            signal.signal(number, handler)


def _has_beaten(client: AgentClient, pid: int) -> bool:
    here = socket.gethostname()
    return any((worker.hostname, worker.pid) == (here, pid) for worker in client.workers())
