"""A worker process, as its supervisor sees it."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack

from agent_worker.supervision.lifeline import VARIABLE
from agent_worker.supervision.restarts import Ending


class Child:
    """A program that was started afresh, with nothing of this process but its environment.

    In a session of its own, since a terminal sends Ctrl-C to all processes of a group: it would
    hear it twice, from there and from its supervisor, and a second Ctrl-C means something else.

    Attributes:
        is_up: Whether its set-up was right: known once it says so, or ends without.
        ended: How it ended, from the first `look` after its end on.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self.is_up: asyncio.Future[bool] = self._loop.create_future()
        self.ended: asyncio.Future[Ending] = self._loop.create_future()
        self._started = time.monotonic()
        self._lifeline, theirs = socket.socketpair()
        with theirs, ExitStack() as undoing:
            undoing.callback(self._lifeline.close)
            self._process = subprocess.Popen(  # noqa: S603  this program once more, no shell
                command,
                stdin=subprocess.DEVNULL,  # one terminal, and many who would read from it
                start_new_session=True,
                pass_fds=[theirs.fileno()],
                env={**os.environ, VARIABLE: str(theirs.fileno())},
            )
            undoing.pop_all()
        self._lifeline.settimeout(0)
        self._loop.add_reader(self._lifeline, self._hear)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send(signal.SIGKILL)

    def look(self) -> None:
        """Find out whether it has ended. Called with each SIGCHLD, which does not say who did."""
        code = self._process.poll()
        if code is None or self.ended.done():
            return
        self._loop.remove_reader(self._lifeline)
        self._lifeline.close()
        self._say_up(is_up=False)
        self.ended.set_result(Ending(self.pid, code, time.monotonic() - self._started))

    def _hear(self) -> None:
        self._loop.remove_reader(self._lifeline)  # its end is seen by `look`
        try:
            heard = self._lifeline.recv(1)
        except OSError:
            heard = b""
        self._say_up(is_up=bool(heard))

    def _say_up(self, *, is_up: bool) -> None:
        if not self.is_up.done():
            self.is_up.set_result(is_up)
