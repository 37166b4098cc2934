"""Stores that depend on how a server is set up: whether it serves, and what it may lose."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Risk:
    """Something about a store that may cost data: a name for logs, and what to do about it."""

    name: str
    advice: str


@runtime_checkable
class Inspectable(Protocol):
    """A store that has to be prepared, and that can tell what is unsafe about its server."""

    async def prepare(self) -> None:
        """Make what it needs, or find it made. Repeating it is harmless.

        Raises:
            ConfigurationError: It cannot serve this process.
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def find_risks(self) -> list[Risk]:
        """What is unsafe about the server; nothing where it does not tell."""
        ...
