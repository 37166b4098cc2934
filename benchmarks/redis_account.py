"""An account of what clients asked of Redis: each command, and in how many round trips.

It is kept beside a connection (see `tests.network.Proxy`), since Redis itself counts what scripts
call as if clients had sent it, and knows of no round trips.
"""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final

from shared.redis_client import script_source

_END: Final = b"\r\n"
_IS_SCRIPT: Final = frozenset({"EVAL", "EVALSHA"})


@dataclass(frozen=True, slots=True)
class Command:
    """One command as it was sent."""

    words: tuple[bytes, ...]
    link: int
    """The connection, by number."""
    trip: int
    """The round trip of that connection. Commands of a pipeline share one."""

    @property
    def kind(self) -> str:
        """The command's name in capitals; of one of this project's scripts, as `ledger/submit`."""
        name = self.words[0].decode().upper()
        if name not in _IS_SCRIPT:
            return name
        digest = self.words[1].decode() if name == "EVALSHA" else _digest(self.words[1])
        return _script_names().get(digest, name)

    def is_about(self, *ids: str) -> bool:
        """Whether one of its words holds one of these ids."""
        return any(each.encode() in word for each in ids for word in self.words)


@dataclass(frozen=True)
class Bill:
    """Some commands, summed up."""

    commands: int
    round_trips: int
    kinds: Counter[str]

    @classmethod
    def of(cls, commands: Sequence[Command]) -> "Bill":
        """Of these commands."""
        trips = {(command.link, command.trip) for command in commands}
        return cls(len(commands), len(trips), Counter(command.kind for command in commands))


class Account:
    """An `Ear` that notes every command. May be read in any thread.

    A round trip begins with what is sent while no answer is outstanding.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: list[Command] = []
        self._pieces: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._trips: Counter[int] = Counter()
        self._waiting: set[int] = set()

    @property
    def commands(self) -> Sequence[Command]:
        """All of them up to now, in order."""
        with self._lock:
            return tuple(self._commands)

    def hear_request(self, link: int, data: bytes) -> None:
        """See `Ear.hear_request`."""
        if link not in self._waiting:
            self._waiting.add(link)
            self._trips[link] += 1
        self._pieces[link] += data
        with self._lock:
            for words in take_commands(self._pieces[link]):
                self._commands.append(Command(words, link, self._trips[link]))

    def hear_answer(self, link: int, data: bytes) -> None:  # noqa: ARG002  that it came is enough
        """See `Ear.hear_answer`."""
        self._waiting.discard(link)


def take_commands(buffer: bytearray) -> Iterator[tuple[bytes, ...]]:
    """Take every whole command out of what a client sent; the rest of one stays.

    Clients send them as arrays of strings with their lengths: ``*2 $3 GET $1 a``, in lines.
    """
    while (taken := _first_command(bytes(buffer))) is not None:
        words, end = taken
        del buffer[:end]
        yield words


def _first_command(data: bytes) -> tuple[tuple[bytes, ...], int] | None:
    """The first command, and where it ends; None if it is not whole."""
    header = _number(data, 0)
    if header is None:
        return None
    count, place = header
    words = []
    for _ in range(count):
        length = _number(data, place)
        if length is None:
            return None
        start, end = length[1], length[1] + length[0]
        place = end + len(_END)
        if len(data) < place:
            return None
        words.append(data[start:end])
    return tuple(words), place


def _number(data: bytes, place: int) -> tuple[int, int] | None:
    """The number of a line such as ``$12``, and where the next line begins."""
    end = data.find(_END, place)
    return None if end < 0 else (int(data[place + 1 : end]), end + len(_END))


@cache
def _script_names() -> dict[str, str]:
    """The project's scripts by digest."""
    home = files("shared") / "lua"
    folders = [each for each in home.iterdir() if each.is_dir()]
    scripts = [
        (folder.name, script.name.removesuffix(".lua"))
        for folder in folders
        for script in folder.iterdir()
        if script.name != "prelude.lua"
    ]
    return {
        _digest(script_source(folder, name).encode()): f"{folder}/{name}"
        for folder, name in scripts
    }


def _digest(source: bytes) -> str:
    return sha1(source, usedforsecurity=False).hexdigest()
