"""For tests, benchmarks and demos: a real worker as a process of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shared.errors import AgentsError

READY_EVENT: Final = "worker.ready"
"""The log event by which a worker says that it takes runs."""


class WorkerDidNotStartError(AgentsError):
    """A worker process ended or stayed silent instead of becoming ready; the log's end is in it."""


class WorkerProcess:
    """``agent-worker start MODULE...`` as a child process, to be killed, frozen and stopped.

    Everything that it logs goes to a file. `environment` is added to this process's own. It stops
    with the context, by its process id; nothing else is touched. `program` is what `python -m` runs
    in the place of the command line, with that line's arguments behind. With more than one of
    `processes` it is their supervisor, and ready when all of them have been.
    """

    def __init__(
        self,
        *modules: str,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        cwd: Path | None = None,
        log_path: Path | None = None,
        program: Sequence[str] = ("agent_worker.cli",),
        processes: int = 1,
    ) -> None:
        self.modules = modules
        self._program = list(program)
        self._arguments = ["--processes", str(processes), *arguments]
        self._processes = processes
        self._environment = dict(environment or {})
        self._cwd = cwd
        self._owns_log = log_path is None
        self.log_path = log_path or Path(tempfile.mkstemp(prefix="agent-worker-", suffix=".log")[1])
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> Self:
        """Start it, or start it again; does not wait. Its log is appended to."""
        command = [sys.executable, "-m", *self._program, "start", *self.modules]
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own program, no shell
                [*command, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._cwd,
                env={**os.environ, "AGENTS_LOG_FORMAT": "json", **self._environment},
            )
        return self

    def wait_ready(self, timeout_s: float = 30.0) -> Self:
        """Wait until it takes runs.

        Raises:
            WorkerDidNotStartError: It ended, or did not say so in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self._said_ready():
            if self.returncode is not None or time.monotonic() > deadline:
                raise WorkerDidNotStartError(
                    f"Worker {self.pid} is not ready (exit code {self.returncode}). Its log ends "
                    f"with:\n{self.log()[-3000:]}"
                )
            time.sleep(0.02)
        return self

    @property
    def pid(self) -> int | None:
        """The process id; None before the first start."""
        return self._process.pid if self._process else None

    @property
    def returncode(self) -> int | None:
        """The exit code; None while it runs, negative for a signal."""
        return self._process.poll() if self._process else None

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether it runs and has said that it takes runs."""
        return self.is_running and self._said_ready()

    def log(self, *, since_start: bool = False) -> str:
        """What it has logged, of all its starts or of the last one."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start if since_start else 0)
            return log.read().decode(errors="replace")

    def _said_ready(self) -> bool:
        return self.log(since_start=True).count(READY_EVENT) >= self._processes

    def send(self, number: signal.Signals) -> None:
        """Send a signal to a process that runs."""
        if self._process is not None and self.is_running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: gone at once, nothing is handed over."""
        self.send(signal.SIGKILL)
        self.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: it holds its connections and leases and does nothing."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM: it hands its runs over and exits; see `wait`."""
        self.send(signal.SIGTERM)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for its end; return the exit code. Raises `subprocess.TimeoutExpired`."""
        if self._process is None:
            raise WorkerDidNotStartError("This worker was never started.")
        return self._process.wait(timeout_s)

    def stop(self, timeout_s: float = 15.0) -> None:
        """Terminate, and kill if that takes too long. Harmless if it has ended."""
        self.thaw()
        self.terminate()
        try:
            if self._process is not None:
                self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._owns_log:
            with contextlib.suppress(FileNotFoundError):
                self.log_path.unlink()

    def __enter__(self) -> Self:
        return self.start().wait_ready()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
