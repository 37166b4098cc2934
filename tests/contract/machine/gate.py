"""The gate: a worker's calls wait in it until the machine lets them happen."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, cast

from shared.backend import Backend
from shared.conversation.protocol import ConversationStore
from shared.ledger.protocol import RunLedger

GATED: Final = frozenset(
    {
        *("lease", "clear_strikes", "finish", "hand_over", "sweep", "get"),
        *("claim", "append", "retract", "expire"),
    }
)
AT_ONCE: Final = frozenset({"beat", "retire", "publish"})
"""Calls that a worker bounds by a time of its own, or that are a courtesy: they do not wait."""

Perform = Callable[..., Awaitable[Any]]


@dataclass(eq=False, frozen=True)
class Call:
    """A call of a worker that has not happened yet, or (`verb` is decide) an engine at work."""

    verb: str
    what: str
    perform: Callable[[], Awaitable[Any]]
    answer: "asyncio.Future[Any]"

    def __repr__(self) -> str:
        return f"{self.verb}({self.what})"


@dataclass(eq=False)
class Gate:
    """Where the calls of one worker wait."""

    waiting: list[Call] = field(default_factory=list)

    async def pass_through(self, verb: str, perform: Perform, *args: Any, **kwargs: Any) -> Any:
        """Wait for the machine, which makes the call and tells its answer, or what went wrong."""
        answer = asyncio.get_running_loop().create_future()
        call = Call(verb, str(args[0]) if args else "", partial(perform, *args, **kwargs), answer)
        self.waiting.append(call)
        try:
            return await answer
        finally:
            if call in self.waiting:
                self.waiting.remove(call)

    async def decide(self, run_id: str) -> int:
        """What an engine does next, as a number that the machine draws."""
        return cast(int, await self.pass_through("decide", _never, run_id))


async def _never(run_id: str) -> None:
    raise AssertionError(f"nobody but the machine decides for {run_id}")


class _Door:
    """A store, as a worker behind a gate sees it."""

    def __init__(self, gate: Gate, store: Any) -> None:
        self._gate = gate
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name in GATED | AT_ONCE:
            return partial(self._gate.pass_through, name, found)
        return found


def gated(backend: Backend, gate: Gate) -> Backend:
    """The same stores, each call of which waits in the gate."""
    return Backend(
        ledger=cast(RunLedger, _Door(gate, backend.ledger)),
        conversations=cast(ConversationStore, _Door(gate, backend.conversations)),
    )
