"""A RabbitMQ node of one's own, to be stopped and started."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.celery_nodes.local import wait_until
from tests.services import missing

START_S: Final = 60.0
STOP_S: Final = 30.0
_DEBIAN: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The one on Debian's PATH changes to another user first, who may not read the test's folder."""


class RabbitMQ:
    """A node on loopback with its data in `folder`; `lines` are added to its configuration."""

    def __init__(self, folder: Path, lines: Sequence[str] = ()) -> None:
        found = shutil.which("rabbitmq-server")
        if _DEBIAN.exists():
            self._binary = str(_DEBIAN)
        elif found is not None:
            self._binary = found
        else:
            missing("there is no rabbitmq-server on the PATH")
        self.port = free_port()
        self._folder = folder
        self._lines = lines
        self._name = f"agents-{uuid4().hex[:12]}@localhost"
        self._distribution_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start the node, on the port and with the data of before, and wait until it listens."""
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "rabbitmq.conf"
        listener = f"listeners.tcp.1 = 127.0.0.1:{self.port}"
        configuration.write_text("\n".join([listener, *self._lines]) + "\n")
        plugins = self._folder / "enabled_plugins"
        plugins.write_text("[].\n")
        environment = {
            **os.environ,
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        }
        with (self._folder / "output.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binary],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        wait_until(self._listens, START_S)

    def stop(self) -> None:
        """Stop it, and wait until it is gone. Harmless if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "output.log").read_text()[-2000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
