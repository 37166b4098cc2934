"""Runs: one execution of an agent, from one input to one outcome.

queued   ──►  running, cancelled, failed
running  ──►  completed, failed, cancelled
running  ──►  queued    handed over by a worker that stops, or taken back from one that died
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.errors import RunCancelledError, RunFailedError
from shared.identifier import history_id
from shared.message import Content, Sealed, Usage, is_none
from shared.spending import Spending
from shared.version import RUN_VERSION

DEFAULT_HISTORY_SIZE: Final = 20
"""How many messages a model sees of a conversation unless somebody says otherwise."""


class RunStatus(StrEnum):
    """Where a run stands. The last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether a run with this status will never change again."""
        return not TRANSITIONS[self]


TRANSITIONS: Final[Mapping[RunStatus, frozenset[RunStatus]]] = MappingProxyType(
    {
        RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED}),
        RunStatus.RUNNING: frozenset(
            {RunStatus.QUEUED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
        ),
        RunStatus.COMPLETED: frozenset(),
        RunStatus.FAILED: frozenset(),
        RunStatus.CANCELLED: frozenset(),
    }
)


class BusyPolicy(StrEnum):
    """What a `submit` to a conversation does while another run holds it."""

    ENQUEUE = "enqueue"
    """Wait; first come, first served."""
    REJECT = "reject"
    """Raise `ConversationBusyError`; nothing is stored."""
    INTERRUPT = "interrupt"
    """Cancel the active run, keep what it wrote, then go first.

    An earlier run that waits to interrupt is cancelled, too: the last one wins. Runs that only wait
    keep their places.
    """
    ROLLBACK = "rollback"
    """As interrupt, and remove what the active run wrote."""


class CancelResult(StrEnum):
    """What a cancel found."""

    CANCELLED = "cancelled"
    """The run was waiting and is cancelled now."""
    REQUESTED = "requested"
    """The run has started; its worker, or the next one to take it, was told to stop it.

    It may still end `completed` or `failed`, if that happened before its worker heard of this. How
    it ended says `result`.
    """
    ALREADY_REQUESTED = "already_requested"
    """As `requested`; somebody else was first."""
    ALREADY_ENDED = "already_ended"
    """It had its outcome already; nothing changed."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RunError(_Value):
    """Why a run failed or was cancelled, in words for people and a code for programs."""

    code: str
    """Snake case, such as ``model_error``, ``max_rounds``, ``time_limit``, ``worker_lost``."""
    message: str


class RunOptions(_Value):
    """What the caller of `submit` may decide about a run; None leaves it to the agent."""

    history_size: int | None = Field(default=None, ge=1)
    """How many messages the model sees when the run starts, its input included."""
    save_on_iteration: bool = True
    """False: all messages of the run are written in one atomic step at its end."""
    time_limit_s: float | None = Field(default=None, gt=0)
    max_rounds: int | None = Field(default=None, ge=1)


class NewRun(_Value):
    """What a client hands to the ledger."""

    id: str
    agent: str
    input: Content
    conversation_id: str | None = None
    idempotency_key: str | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    priority: int = Field(default=5, ge=0, le=9)
    """0 (first) to 9 (last)."""
    on_busy: BusyPolicy = BusyPolicy.ENQUEUE
    options: RunOptions = RunOptions()
    version: int = Field(default=RUN_VERSION, ge=1)
    """Which version of `shared.version` a worker, or whoever reads the run, has to know."""
    sealed: Sealed | None = Field(default=None, exclude_if=is_none)
    """Input, metadata and options, as they are stored where runs are encrypted; those are empty."""
    request_digest: str | None = Field(default=None, exclude_if=is_none)
    """What stands for agent and input where they are encrypted; see `shared.request_digest`."""

    @property
    def history_id(self) -> str:
        """Under which id the conversation store keeps its messages."""
        return history_id(self.id, self.conversation_id)


class Run(NewRun):
    """A run as the ledger knows it. Times are UTC, by the store's clock."""

    status: RunStatus = RunStatus.QUEUED
    created_at: datetime
    started_at: datetime | None = None
    """When a worker first took it."""
    finished_at: datetime | None = None
    worker_id: str | None = None
    """Who holds or last held the lease."""
    fencing_token: int = 0
    attempts: int = 0
    """How often a worker took it: 1 for a run that nothing happened to."""
    crashes: int = 0
    """How often its worker died."""
    strikes: int = 0
    """How often, since it last stored a message: it may be what they die of."""
    is_suspect: bool = False
    """One more strike would fail it. A worker executes one such run at a time, until it stores a
    message, so that no two of them are blamed for one death."""
    cancel_requested: bool = False
    needs_version: int = RUN_VERSION
    """Which version a worker has to know to execute it; more than `version` where messages in its
    conversation ask for that."""
    rollback_requested: bool = False
    """Its messages are removed when it stops."""
    rounds: int = 0
    output: JsonValue = None
    usage: Usage = Usage()
    spending: Spending = Spending()
    error: RunError | None = None
    sealed_outcome: Sealed | None = Field(default=None, exclude_if=is_none)
    """Output and error, as they are stored where runs are encrypted; those are empty."""

    @property
    def outcome(self) -> "Outcome":
        """How the run ended. Meaningful once `status.is_final`."""
        return Outcome(
            run_id=self.id,
            status=self.status,
            output=self.output,
            usage=self.usage,
            spending=self.spending,
            rounds=self.rounds,
            error=self.error,
            rolled_back=self.is_rolled_back,
        )

    @property
    def is_rolled_back(self) -> bool:
        """Whether it was stopped and its messages are removed."""
        return self.status is RunStatus.CANCELLED and self.rollback_requested


class Ending(_Value):
    """What a worker reports when it finishes a run."""

    status: Literal[RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED]
    output: JsonValue = None
    usage: Usage = Usage()
    spending: Spending = Spending()
    rounds: int = 0
    error: RunError | None = None
    sealed: Sealed | None = Field(default=None, exclude_if=is_none)
    """Output and error, where runs are encrypted; those are empty."""


class Outcome(_Value):
    """How a run ended."""

    run_id: str
    status: RunStatus
    output: JsonValue = None
    """What the agent returned: text, or JSON for a structured output type."""
    usage: Usage = Usage()
    spending: Spending = Spending()
    rounds: int = 0
    error: RunError | None = None
    rolled_back: bool = False
    """It was cancelled by a run that rolled it back; its messages are gone."""

    def raise_for_status(self) -> "Outcome":
        """Return self if the run completed.

        Raises:
            RunFailedError: It failed.
            RunCancelledError: It was cancelled.
        """
        reason = f" ({self.error.code}): {self.error.message}" if self.error else "."
        if self.status is RunStatus.FAILED:
            raise RunFailedError(f"Run {self.run_id} failed{reason}")
        if self.status is RunStatus.CANCELLED:
            how = "rolled back: its messages are removed" if self.rolled_back else "cancelled"
            raise RunCancelledError(f"Run {self.run_id} was {how}{reason}")
        return self


class Lease(_Value):
    """The right of one worker to execute one run, for as long as the worker's heartbeat lasts."""

    run: Run
    worker_id: str
    fencing_token: int


class AgentInfo(_Value):
    """An agent as a worker announces it."""

    name: str
    queue: str
    model: str | None = None
    description: str | None = None
    tools: tuple[str, ...] = ()


class WorkerInfo(_Value):
    """A worker as it announces itself."""

    id: str
    hostname: str
    pid: int
    version: str
    concurrency: int
    agents: tuple[AgentInfo, ...]
    started_at: datetime
    active_runs: int = 0
    format_version: int = 1
    """The newest version of `shared.version` that it executes."""
