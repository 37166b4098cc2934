"""Stands in for a worker process; a program of its own that starts in milliseconds.

    python stand_in.py FOLDER BEHAVIOUR...

The first process that is started in a folder shows the first behaviour, and so on; those beyond the
last one show the last. Each leaves a file with its number, in which there is first its process id
and then the number of each signal that it got, line by line.

    serve     say that the set-up is right, and leave on SIGTERM
    stubborn  the same, but do not leave
    silent    leave on SIGTERM, and say nothing
    refuse    find the set-up wrong

None of them outlives its supervisor.
"""

import os
import signal
import socket
import sys
from pathlib import Path

REFUSED = 2
POLL_S = 0.01


def main(folder: Path, *behaviours: str) -> None:
    """See the module."""
    number, notes = _enter(folder)
    behaviour = behaviours[min(number, len(behaviours) - 1)]
    got: list[int] = []

    def note(number: int, _: object = None) -> None:
        got.append(number)
        os.write(notes, f"{number}\n".encode())

    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(each, note)
    os.write(notes, f"{os.getpid()}\n".encode())
    if behaviour == "refuse":
        sys.exit(REFUSED)
    lifeline = socket.socket(fileno=int(os.environ["AGENT_WORKER_LIFELINE"]))
    if behaviour != "silent":
        lifeline.send(b"\n")
    lifeline.settimeout(POLL_S)
    while behaviour == "stubborn" or signal.SIGTERM not in got:
        try:
            lifeline.recv(1)
        except TimeoutError:
            continue
        sys.exit("the supervisor is gone")


def _enter(folder: Path) -> tuple[int, int]:
    """The number of this process, which no other one has, and its file."""
    number = 0
    while True:
        try:
            return number, os.open(folder / str(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            number += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
