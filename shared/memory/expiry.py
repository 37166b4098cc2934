"""Expiry: which keys of a dictionary are to be forgotten by now."""

from datetime import datetime, timedelta
from typing import Generic, TypeVar

from shared.memory.clock import Clock

Key = TypeVar("Key")


class Expiry(Generic[Key]):
    """Keys that all live equally long, in the order in which they are going to be forgotten."""

    def __init__(self, ttl_s: float, clock: Clock) -> None:
        self._ttl = timedelta(seconds=ttl_s)
        self._clock = clock
        self._deadlines: dict[Key, datetime] = {}

    def schedule(self, key: Key) -> None:
        """Forget `key` one lifetime from now, whatever was scheduled for it before."""
        # Taken out first, since a dictionary keeps the place of a key that is only set again.
        self._deadlines.pop(key, None)
        self._deadlines[key] = self._clock() + self._ttl

    def cancel(self, key: Key) -> None:
        """Do not forget `key` after all."""
        self._deadlines.pop(key, None)

    def take_due(self) -> list[Key]:
        """The keys whose time has come; each is returned once."""
        now = self._clock()
        due: list[Key] = []
        for key, deadline in self._deadlines.items():
            if deadline > now:
                break
            due.append(key)
        for key in due:
            del self._deadlines[key]
        return due
