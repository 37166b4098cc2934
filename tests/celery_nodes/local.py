"""What pytest-celery expects of a container, provided by a local process.

Its nodes ask a container for a few things only: readiness, logs, a name, signals, a restart. So a
test is written against the node and does not see what stands behind it.
"""

import os
import signal as signals
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestWorker

from agent_worker.testing import WorkerProcess
from shared.embedded_redis import EmbeddedRedis


def _number(signal: str | int) -> signals.Signals:
    return signals.Signals(signal) if isinstance(signal, int) else signals.Signals[signal]


class LocalRedis:
    """A Redis process in a container's clothes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder = folder
        self.server = EmbeddedRedis(folder).start()

    @property
    def id(self) -> str:
        return f"{self.server.pid:012d}"

    @property
    def status(self) -> str:
        return "running" if self.server.is_running else "exited"

    @property
    def celeryconfig(self) -> dict[str, str]:
        return {"url": self.server.url, "host_url": self.server.url}

    def ready(self) -> bool:
        return self.server.is_running

    def logs(self) -> str:
        return (self._folder / "redis.log").read_text(errors="replace")

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = _number(signal)
        if number is signals.SIGKILL:
            self.server.kill()
        elif number in {signals.SIGSTOP, signals.SIGCONT}:
            os.kill(self.server.pid, number)
        else:
            self.server.stop()

    def restart(self, timeout: float = 10) -> None:
        self.server.stop()
        self.server.start()

    def reload(self) -> None:
        """A process has no cached attributes to read again."""

    def teardown(self) -> None:
        self.server.stop()


class SharedBroker:
    """A broker that runs already and is not ours to stop."""

    status = "running"

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.id = "shared-" + name
        self.celeryconfig = {"url": url, "host_url": url}

    def ready(self) -> bool:
        return True

    def reload(self) -> None:
        """Nothing is cached."""

    def teardown(self) -> None:
        """It stays."""


class LocalWorker:
    """A worker process in a container's clothes."""

    def __init__(self, process: WorkerProcess, name: str) -> None:
        self.name = name
        self.process = process.start()

    @property
    def id(self) -> str:
        return f"{self.process.pid or 0:012d}"

    @property
    def status(self) -> str:
        return "running" if self.process.is_running else "exited"

    def worker_name(self) -> str:
        return self.name

    def ready(self) -> bool:
        self.process.wait_ready()
        return True

    def logs(self) -> str:
        return self.process.log()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        number = _number(signal)
        if number is signals.SIGKILL:
            self.process.kill()  # and waits, or whoever asks for its status might find it running
        else:
            self.process.send(number)

    def restart(self, timeout: float = 10) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.process.start().wait_ready()

    def reload(self) -> None:
        """A process has no cached attributes to read again."""

    def teardown(self) -> None:
        self.process.stop()


class BrokerNode(CeleryTestBroker):  # type: ignore[misc]  # pytest-celery is not typed
    """The broker of a test."""


class BackendNode(CeleryTestBackend):  # type: ignore[misc]  # pytest-celery is not typed
    """Redis with the runs and conversations of a test."""


class WorkerNode(CeleryTestWorker):  # type: ignore[misc]  # pytest-celery is not typed
    """A worker of a test."""

    def wait_exited(self, timeout_s: float = 20.0) -> None:
        """Wait until its process is gone."""
        wait_until(lambda: self.container.status != "running", timeout_s)


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait, blocking, until `condition()` is truthy; return what it gave then."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s; the last answer was {answer!r}")
        time.sleep(0.02)
    return answer
