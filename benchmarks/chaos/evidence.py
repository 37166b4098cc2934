"""The evidence: everything that a run of the harness has left behind, in plain values.

What is verified is a function of these, so each verdict can be tested without a system.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.chaos.journal import Execution
from benchmarks.chaos.plan import Spec
from benchmarks.chaos.schedule import FaultKind
from shared.message import Message
from shared.run import CancelResult, Run, RunStatus


@dataclass(frozen=True)
class Told:
    """What one call of `submit` told its caller. Times are this machine's, in seconds."""

    spec_id: str
    at: float
    seconds: float
    run_id: str | None = None
    error: str | None = None
    """The class of the exception."""
    detail: str = ""


@dataclass(frozen=True)
class CancelTold:
    """What one call of `cancel` told its caller; an exception's class in `error`."""

    spec_id: str
    run_id: str
    result: CancelResult | None = None
    error: str | None = None


@dataclass(frozen=True)
class Sighting:
    """What one watcher of a run saw."""

    run_id: str
    who: str
    """``here`` or ``elsewhere`` (another process)."""
    how: str
    ids: tuple[str, ...]
    """Ids of the messages, in the order in which they came."""
    final: RunStatus | None = None
    """From the event of the end; None where only messages are watched."""
    is_rolled_back: bool = False
    error: str | None = None
    """Why it ended, other than by the run's end."""


@dataclass(frozen=True)
class Harm:
    """A fault that was carried out. Times are this machine's, in seconds."""

    kind: FaultKind
    at: float
    until: float
    worker_id: str | None = None
    count: int = 1
    """Wake-ups that were dropped, or added."""
    exit_s: float | None = None
    """How long a terminated worker took to end."""


@dataclass(frozen=True)
class LogEntry:
    """What a worker logged about a run."""

    at: float
    event: str
    run_id: str
    worker_id: str
    attempt: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Evidence:
    """All of it."""

    specs: Mapping[str, Spec]
    told: Sequence[Told] = ()
    cancels: Sequence[CancelTold] = ()
    outcomes: Mapping[str, RunStatus] = field(default_factory=dict)
    """What `result` told about each accepted run; one that is missing was told nothing in time."""
    runs: Sequence[Run] = ()
    """All runs in the ledger, oldest first."""
    histories: Mapping[str, Sequence[Message]] = field(default_factory=dict)
    """The messages of every history that a run has, by its id."""
    executions: Sequence[Execution] = ()
    sightings: Sequence[Sighting] = ()
    harms: Sequence[Harm] = ()
    logs: Sequence[LogEntry] = ()
    leftovers: Sequence[str] = ()
    """Entries of indexes that should be empty when every run has ended."""
    exit_limit_s: float = 30.0
    """The promise is 10 s: 5 s, and 5 s of grace. But the machine is busy with being harmed."""
