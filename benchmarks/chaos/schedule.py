"""The schedule: which fault comes when, from the seed."""

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class FaultKind(StrEnum):
    """What can be done to the system."""

    KILL = "kill"
    """kill -9 of a worker, which is started again a little later."""
    KILL_ALL = "kill_all"
    """The same with all workers that run, at once."""
    FREEZE = "freeze"
    """SIGSTOP of a worker for longer than a lease, then SIGCONT: a zombie."""
    TERMINATE = "terminate"
    """SIGTERM of a worker, which is started again when it has ended: a deploy."""
    STORE_RESTART = "store_restart"
    """kill -9 of the store, which is started again a little later."""
    STORE_STALL = "store_stall"
    """SIGSTOP of the store for some seconds: connections stand, and nothing answers."""
    STORE_SILENCE = "store_silence"
    """The same for longer than clients wait: writes happen whose answers nobody hears."""
    BROKER_RESTART = "broker_restart"
    """kill -9 of the broker; or, where it is not ours, all connections to it cut for a while."""
    DROP = "drop"
    """Wake-ups are taken from the queue and thrown away, for a while."""
    DUPLICATE = "duplicate"
    """Wake-ups are taken from the queue and put back three times, for a while."""
    RING_AGAIN = "ring_again"
    """Workers are rung for runs that wait, are being executed or have ended."""


@dataclass(frozen=True)
class Fault:
    """One fault: when it is due, and how long it lasts (a worker's or server's absence)."""

    at: float
    kind: FaultKind
    seconds: float
    choice: float
    """From 0 to 1: which of the workers that can be had."""


_PER_MINUTE: Final = {
    FaultKind.KILL: 13.0,
    FaultKind.KILL_ALL: 0.4,
    FaultKind.FREEZE: 5.0,
    FaultKind.TERMINATE: 3.0,
    FaultKind.STORE_RESTART: 1.0,
    FaultKind.STORE_STALL: 0.7,
    FaultKind.BROKER_RESTART: 1.0,
    FaultKind.DROP: 3.0,
    FaultKind.DUPLICATE: 3.0,
    FaultKind.RING_AGAIN: 4.0,
}
_AT_LEAST_ONCE: Final = frozenset(_PER_MINUTE) - {FaultKind.KILL_ALL, FaultKind.STORE_STALL}
_CALM_S: Final = 2.0
"""No fault so soon after the start."""
_SILENCE_FROM_S: Final = 40.0
"""A shorter load would hardly be felt beside a silence."""


def make_schedule(
    seed: int, seconds: float, *, lease_s: float, redis_timeout_s: float
) -> list[Fault]:
    """Faults for `seconds` of load, in order of time.

    The silence comes last and by itself: nobody can recover from anything while the store stands,
    and what is measured is recovery from the loss of workers.
    """
    chance = random.Random(f"faults {seed}")  # noqa: S311 - has to be the same for the same seed
    lasting = {
        FaultKind.KILL: (0.0, 2.5),
        FaultKind.KILL_ALL: (0.0, 1.0),
        FaultKind.FREEZE: (lease_s + 0.5, lease_s + 4.0),
        FaultKind.TERMINATE: (0.0, 1.0),
        FaultKind.STORE_RESTART: (0.2, 2.0),
        FaultKind.STORE_STALL: (0.5, 3.0),
        FaultKind.BROKER_RESTART: (0.2, 3.0),
        FaultKind.DROP: (1.0, 4.0),
        FaultKind.DUPLICATE: (1.0, 4.0),
        FaultKind.RING_AGAIN: (0.0, 0.0),
    }
    faults = []
    end = seconds - 1.0
    if seconds >= _SILENCE_FROM_S:
        silence_s = redis_timeout_s + chance.uniform(0.5, 1.5)
        faults.append(Fault(end - silence_s, FaultKind.STORE_SILENCE, silence_s, choice=0.0))
        end -= silence_s + lease_s
    faults += [
        Fault(
            at=chance.uniform(_CALM_S, max(end, _CALM_S)),
            kind=kind,
            seconds=chance.uniform(*lasting[kind]),
            choice=chance.random(),
        )
        for kind, per_minute in _PER_MINUTE.items()
        for _ in range(max(round(per_minute * seconds / 60), int(kind in _AT_LEAST_ONCE)))
    ]
    return sorted(faults, key=lambda fault: fault.at)
