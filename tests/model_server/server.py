"""Running the stand-in model on a free port of this machine: in a thread, or in a process.

The thread shares this process, so a test can hand it values; the process can be killed, and takes
no time from what is being measured.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp

from tests.model_server.app import create_app
from tests.model_server.behaviour import DEFAULT_RETRY_AFTER_S
from tests.model_server.stats import Stats

__all__ = ["ModelServer", "ModelServerProcess", "bind", "create_app", "serve"]

HOST = "127.0.0.1"
BACKLOG = 2048
CALL_TIMEOUT_S = 20.0
WAIT_TIMEOUT_S = 30.0
POLL_S = 0.02
STOP_TIMEOUT_S = 10.0

_REPOSITORY = Path(__file__).parents[2]


def bind(port: int = 0) -> socket.socket:
    """Return a socket that listens already: whoever connects waits until the server is up."""
    listener = socket.create_server((HOST, port), backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until the process is told to stop; open requests are cut off then."""
    _uvicorn(app).run(sockets=[listener])


class _Running:
    """What both ways of running have in common: where it is, and what it has counted."""

    _port: int

    @property
    def url(self) -> str:
        """The server's root, such as ``http://127.0.0.1:49152``."""
        return f"http://{HOST}:{self._port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL: the root and ``/v1``."""
        return f"{self.url}/v1"

    def stats(self) -> Stats:
        """Return the server's counts of this moment."""
        return Stats(**json.loads(self._call("GET", "/stats")))

    def reset(self) -> None:
        """Start all counts anew, but for the requests still in flight, and forget the requests."""
        self._call("DELETE", "/stats")

    def wait_until(
        self, condition: Callable[[Stats], bool], timeout_s: float = WAIT_TIMEOUT_S
    ) -> Stats:
        """Wait until the counts are as wanted and return them; raises TimeoutError, showing them.

        Blocks: on an event loop, call it in a thread.
        """
        end = time.monotonic() + timeout_s
        while not condition(stats := self.stats()):
            if time.monotonic() > end:
                raise TimeoutError(f"not as wanted within {timeout_s:g} s: {stats}")
            time.sleep(POLL_S)
        return stats

    def requests(self) -> list[dict[str, Any]]:
        """Return the bodies of the last chat requests, as many as the app was told to keep."""
        kept: list[dict[str, Any]] = json.loads(self._call("GET", "/requests"))
        return kept

    def _call(self, method: str, path: str) -> bytes:
        """Call the server itself, whatever proxy the environment names."""
        connection = HTTPConnection(HOST, self._port, timeout=CALL_TIMEOUT_S)
        with closing(connection):
            connection.request(method, path)
            return connection.getresponse().read()


class ModelServer(_Running):
    """The app in a thread of this process, for the length of a `with` block."""

    def __init__(self, app: ASGIApp | None = None) -> None:
        self._app = app or create_app()

    def __enter__(self) -> Self:
        listener = bind()
        self._port = listener.getsockname()[1]
        self._server = _uvicorn(self._app)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="model-server", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)


class ModelServerProcess(_Running):
    """`python -m tests.model_server` as a child process, for the length of a `with` block."""

    def __init__(
        self,
        recordings: Iterable[Path] = (),
        *,
        latency_s: float = 0.0,
        chunk_delay_s: float = 0.0,
        retry_after_s: float = DEFAULT_RETRY_AFTER_S,
        keep_requests: int = 0,
    ) -> None:
        self._command = [sys.executable, "-m", "tests.model_server", "--port", "0"]
        for path in recordings:
            self._command += ["--recordings", str(path.resolve())]
        self._command += ["--latency-s", str(latency_s), "--chunk-delay-s", str(chunk_delay_s)]
        self._command += ["--retry-after-s", str(retry_after_s)]
        self._command += ["--keep-requests", str(keep_requests)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=_REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        with self._process.stdout as output:
            first_line = output.readline().strip()  # it says nothing after that
        if not first_line:
            status = self._process.wait(STOP_TIMEOUT_S)
            raise RuntimeError(f"the model server ended with status {status} before it was up")
        self._port = int(first_line.rpartition(":")[2])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Server(uvicorn.Server):
    """Drops its connections when stopped: some requests hang on purpose, nobody waits for them."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        self.force_exit = True
        await super().shutdown(sockets)


def _uvicorn(app: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            app, lifespan="off", ws="none", access_log=False, log_level="warning", backlog=BACKLOG
        )
    )
