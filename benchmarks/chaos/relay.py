"""A relay in front of a broker that is not ours: its connections can be cut without harming it."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit, urlunsplit

from shared.errors import BrokerUnavailableError

CONNECT_S: Final = 5.0
_CHUNK: Final = 65_536


class Relay:
    """Listens on loopback and passes on what comes to a broker, as long as it is open.

    While it is cut, connections are refused.

    Raises:
        BrokerUnavailableError: When entered: nothing listens where the broker should be.
    """

    def __init__(self, broker_url: str) -> None:
        self._parts = urlsplit(broker_url)
        self._target = (self._parts.hostname or "localhost", self._parts.port or 5672)
        self._port = 0
        self._listener: socket.socket | None = None
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The broker's URL, through the relay."""
        credentials, _, _ = self._parts.netloc.rpartition("@")
        here = f"127.0.0.1:{self._port}"
        netloc = f"{credentials}@{here}" if credentials else here
        return urlunsplit(self._parts._replace(netloc=netloc))

    def __enter__(self) -> Self:
        try:
            socket.create_connection(self._target, CONNECT_S).close()
        except OSError as error:
            host, port = self._target
            raise BrokerUnavailableError(
                f"No RabbitMQ listens on {host}:{port}. Start one, name another one with "
                "AGENTS_CHAOS_BROKER_URL=amqp://..., or leave --broker rabbitmq out."
            ) from error
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cut()

    def open(self) -> None:
        """Take connections, on the same port every time."""
        listener = socket.create_server(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and take no more."""
        if self._listener is not None:
            # A thread that is in `accept` would keep the port open beyond a mere close.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, CONNECT_S)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._sockets |= {client, server}
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        with self._lock:
            self._sockets -= {source, sink}
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
