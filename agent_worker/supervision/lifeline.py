"""The lifeline: a socket between a worker process and the one that supervises it.

It says two things without a protocol. A byte from the worker: the set-up is right, it works. Its
end: the supervisor is gone, however it ended, since the system closes what a process leaves behind.
"""

import os
import signal
import socket
import threading
from contextlib import suppress
from typing import Final, Self

import structlog

from shared.errors import ConfigurationError

VARIABLE: Final = "AGENT_WORKER_LIFELINE"
"""Environment variable: the file descriptor of the worker's end. Set by supervisors only."""

log = structlog.get_logger()


class Lifeline:
    """The worker's end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def from_environment(cls) -> Self | None:
        """Take the end that this process was given; None if nobody supervises it.

        What this process starts is given neither the end nor the variable.

        Raises:
            ConfigurationError: The variable names something else.
        """
        number = os.environ.pop(VARIABLE, None)
        if number is None:
            return None
        try:
            end = socket.socket(fileno=int(number))
        except (ValueError, OSError) as error:
            raise ConfigurationError(
                f"{VARIABLE} is set, and no supervisor of worker processes has set it; unset it."
            ) from error
        end.set_inheritable(False)
        end.settimeout(None)
        return cls(end)

    def report_up(self) -> None:
        """Say that the set-up is right and the worker works. Does not wait."""
        with suppress(OSError):  # nobody is there to hear it: `watch` finds that out
            self._end.send(b"\n")

    def watch(self) -> None:
        """From now on, once the supervisor is gone, do what SIGTERM does: hand over and leave.

        Called on the main thread.
        """
        main = threading.get_ident()
        threading.Thread(target=self._watch, args=(main,), name="lifeline", daemon=True).start()

    def _watch(self, main: int) -> None:
        with suppress(OSError):
            while self._end.recv(1):
                pass
        log.warning("supervisor.lost", pid=os.getpid())
        # To the main thread, which may sit in a system call that has to be interrupted.
        signal.pthread_kill(main, signal.SIGTERM)
