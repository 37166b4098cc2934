"""The engine: what runs the agent loop.

The durable part above it knows no LLM library; an engine knows no Redis, no Celery, no other run.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from agent_worker.context import RunInfo
from shared.message import Draft, Message, Usage
from shared.run import AgentInfo
from shared.settings import OversizePolicy


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Bounds that the engine itself has to keep. The run's total time is kept above it."""

    max_rounds: int
    """Model calls in the whole run, those before a take-over included."""
    model_timeout_s: float
    tool_timeout_s: float
    model_retries: int
    max_message_bytes: int = 4_000_000
    """What an answer may take. An engine that streams gives up where it sees that it takes more."""
    max_result_bytes: int = 262_144
    """What a tool result may take."""
    oversize_result: OversizePolicy = "cut"
    """A larger one: cut, with a note for the model; or fail, so that the call fails."""
    shorten_results_bytes: int | None = None
    """What a model is shown of a tool result that is stored whole; None: all of it. Results in
    `EngineRequest.history` are shortened already. Those of the run itself are not: an engine shows
    them to its model as `agent_worker.cutting.cut` makes them, and yields them whole."""


async def _confirm_nothing() -> None:
    """Outside of a worker nobody can take a run away."""


class CutOff:
    """The end of all running tools of one run, without losing the result of one that has ended.

    A worker that leaves gives this order when the grace of its tools is over. To close the
    generator instead would lose what has ended and was not yielded yet: such a tool would be
    executed again. An engine that heeds the order cancels every tool that has not ended, yields no
    result for it, and goes on yielding those of the others until it is closed.
    """

    def __init__(self) -> None:
        self.is_given = False
        self._limits: set[asyncio.Timeout] = set()

    def give(self) -> None:
        """Let the time of every running tool be over."""
        self.is_given = True
        for limit in self._limits:
            _end(limit)

    @contextmanager
    def ends(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Put a tool's time limit, which has been entered, under the order."""
        self._limits.add(limit)
        if self.is_given:
            _end(limit)
        try:
            yield
        finally:
            self._limits.discard(limit)


def _end(limit: asyncio.Timeout) -> None:
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What an engine is given.

    Attributes:
        run: Ids and metadata; also what tools find in `agent_worker.tool_context()`.
        history: The window of the conversation before this run, pair-safe, oldest first.
        own: What this run has stored so far, in order. `own[0]` is the user's input; the rest is
            there when the run is taken over from another worker. A summary that the run wrote is
            not among them, so that positions may have a gap there.
        limits: Bounds to keep.
        stream_text: Whether somebody may want `TextDelta`s.
        confirm: To be awaited right before a model call or a tool is started. It comes back at once
            unless the worker has stood still; if the run was taken over meanwhile, it does not, and
            the engine is closed.
        cut_off: The order to stop tools that an engine should heed.
        position: Where the first message that the engine yields will stand in the run. None: behind
            `own`, without a gap.
    """

    run: RunInfo
    history: tuple[Message, ...]
    own: tuple[Message, ...]
    limits: EngineLimits
    stream_text: bool = True
    confirm: Callable[[], Awaitable[None]] = field(default=_confirm_nothing, compare=False)
    cut_off: CutOff = field(default_factory=CutOff, compare=False)
    position: int | None = None

    @property
    def next_position(self) -> int:
        """The place of the message that is yielded first: idempotency keys are made of it."""
        return len(self.own) if self.position is None else self.position


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer being written: the start of the next assistant message."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last thing an engine yields; `rounds` and `usage` are of the whole run."""

    output: JsonValue
    usage: Usage
    rounds: int


EngineEvent = Draft | TextDelta | Finished


class Engine(Protocol):
    """Runs one agent.

    Guarantees that an engine gives, and the contract suite for engines checks:

    - It yields every message the moment it exists: an assistant's message before any of its tools
      starts, each tool result when that tool ends (in the order in which they end). It does not
      start what depends on a message before control comes back from that `yield`, since only then
      the message is stored. It does not yield messages that `own` holds already.
    - Given the same `own`, it goes on after it: no model call whose answer is in `own` is repeated,
      no tool whose result is in `own` is executed. `own` that ends with the final answer yields
      `Finished` without any model call.
    - A tool that raises or runs out of time becomes a tool result, never the end of the run.
    - It ends with exactly one `Finished`, or raises `EngineError`.
    - Closing the generator cancels whatever it started; nothing goes on behind it, except sync
      tools, whose late results are dropped.
    """

    @property
    def info(self) -> AgentInfo:
        """What to announce about the agent. `queue` is filled in by the worker."""
        ...

    def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Execute a run, or the rest of one.

        Raises:
            EngineError: The run cannot go on; its `code` ends up in the run's error.
        """
        ...


class EngineError(Exception):
    """The run failed for a reason that an engine can name.

    Attributes:
        code: Snake case, stored in the run's error: ``model_error``, ``max_rounds``,
            ``model_timeout``, ``output_invalid``, ``usage_limit``, ``answer_too_large``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
