"""What stands in a store at one moment, past its public face."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.message import Message
from shared.run import Run, RunStatus


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Records, and every index over them.

    Attributes:
        runs: By id.
        messages: By history; with cursors.
        ready: Runs that a worker may take.
        suspects: Those of them that are kept apart, since they may be what their workers died of.
        leases: By worker.
        holders: Workers that a sweep looks at.
        active: By history, the run that holds it.
        waiting: By history, the next one first.
        cancelling: Runs that a sweep names to their worker as asked to stop.
        by_status: Runs, as lists find them.
        by_history: The same, by their history.
        listed: Conversations that a listing finds; None where there is no index of them.
        forgotten: Keys that nothing above has read and that should not be there.
    """

    runs: Mapping[str, Run] = field(default_factory=dict)
    messages: Mapping[str, Sequence[Message]] = field(default_factory=dict)
    ready: frozenset[str] = frozenset()
    suspects: frozenset[str] = frozenset()
    leases: Mapping[str, frozenset[str]] = field(default_factory=dict)
    holders: frozenset[str] = frozenset()
    active: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cancelling: frozenset[str] = frozenset()
    by_status: Mapping[RunStatus, frozenset[str]] = field(default_factory=dict)
    by_history: Mapping[str, frozenset[str]] = field(default_factory=dict)
    listed: frozenset[str] | None = None
    forgotten: frozenset[str] = frozenset()
