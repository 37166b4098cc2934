"""Agent definitions: what a worker can run, and under which bounds."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from agent_worker.context import RunInfo
from agent_worker.engine.protocol import Engine
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.protocol import WindowPolicy
from shared.identifier import check_id
from shared.settings import OversizePolicy

DepsFactory = Callable[[RunInfo], Any | Awaitable[Any]]
"""Makes the dependencies of one run (Pydantic AI's `deps`); may be async."""


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Bounds of one agent; None leaves it to the worker's settings."""

    history_size: int | None = None
    max_rounds: int | None = None
    time_limit_s: float | None = None
    model_timeout_s: float | None = None
    tool_timeout_s: float | None = None
    model_retries: int | None = None
    max_result_bytes: int | None = None
    oversize_result: OversizePolicy | None = None
    shorten_results_bytes: int | None = None
    window: WindowPolicy = field(default_factory=LastMessages)
    """What the model sees of the conversation before a run. It leaves nothing to the settings but
    the size of the default, the last messages."""
    stream_text: bool = True
    """False saves the cost of streaming for agents whose answers nobody watches being written."""


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """A named engine with its bounds."""

    name: str
    engine: Engine
    options: AgentOptions = field(default_factory=AgentOptions)

    def __post_init__(self) -> None:
        check_id(self.name, "agent name")
