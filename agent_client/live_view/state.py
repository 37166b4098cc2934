"""What is known of a run that is being watched, as a value.

Nothing here draws, reads a clock or knows a terminal. Rendering is a function of this state and the
time, so the same events always look the same, live or a week later.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Self

from pydantic import JsonValue

from agent_client.live_view.text import content_text
from shared.message import Message, ToolCall, ToolOutcome
from shared.run import Run, RunError, RunStatus

_RESULT_LENGTH: Final = 2_000
"""Characters of a tool's result that are kept: one line is shown, and a result may be huge."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. It is open until it has an outcome."""

    id: str
    name: str
    arguments: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: ToolOutcome | None = None
    result: str = ""

    @classmethod
    def asked(cls, call: ToolCall, at: datetime) -> Self:
        """A call as an assistant's message brings it."""
        return cls(call.id, call.name, call.arguments, started_at=at)

    @property
    def is_open(self) -> bool:
        """Whether its result is still to come."""
        return self.outcome is None

    def took_s(self, now: datetime) -> float:
        """Seconds from the message that asked for it to its result, or until `now`."""
        return ((self.ended_at or now) - self.started_at).total_seconds()

    def fits(self, result: Message) -> bool:
        """Whether `result` may be the result of this call. Ids repeat, so an open one is meant."""
        is_named = result.tool_name in (None, self.name)
        return self.is_open and is_named and result.tool_call_id == self.id

    def ended(self, result: Message) -> "Call":
        """The same call with its result."""
        return replace(
            self,
            ended_at=result.created_at,
            outcome=result.outcome or ToolOutcome.SUCCESS,
            result=content_text(result.content)[:_RESULT_LENGTH],
        )


@dataclass(frozen=True, slots=True)
class Round:
    """What an assistant said at one position of the run, and the tools that it asked for.

    `is_stored` is False while the text is being streamed; the message then replaces it.
    """

    position: int
    text: str = ""
    is_stored: bool = False
    calls: tuple[Call, ...] = ()

    @property
    def has_open_calls(self) -> bool:
        """Whether a result is still to come."""
        return any(call.is_open for call in self.calls)


@dataclass(frozen=True, slots=True)
class Note:
    """A line about the run, rather than something that its agent said."""

    text: str
    is_error: bool = False


Block = Round | Note


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run as its events tell it so far.

    Attributes:
        blocks: Rounds and notes in the order in which they came. One that `is_settled` stays as
            it is and where it is, so it may be printed for good.
        attempt: The newest lease that was heard of.
        earlier_rounds: Rounds before the first of `blocks`, for a watcher that came later.
        last_ended: The call whose result came last.
        ended_rounds: Of the whole run, from its record; None until it has ended.
        cursor: Of the last event, to come back with.
    """

    run_id: str
    agent: str = ""
    conversation_id: str | None = None
    input: str = ""
    status: RunStatus = RunStatus.QUEUED
    worker_id: str | None = None
    attempt: int = 0
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    blocks: tuple[Block, ...] = ()
    last_ended: Call | None = None
    earlier_rounds: int = 0
    ended_rounds: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    output: JsonValue = None
    error: RunError | None = None
    cursor: str | None = None

    @classmethod
    def of(cls, run: Run) -> Self:
        """Before the first event: who the run is, not how far it came."""
        return cls(
            run_id=run.id,
            agent=run.agent,
            conversation_id=run.conversation_id,
            input=content_text(run.input),
            created_at=run.created_at,
        )

    @property
    def rounds(self) -> int:
        """Rounds so far, or of the whole run once it has ended."""
        if self.ended_rounds is not None:
            return self.ended_rounds
        return self.earlier_rounds + sum(isinstance(block, Round) for block in self.blocks)

    @property
    def calls(self) -> tuple[Call, ...]:
        """All tool calls of `blocks`."""
        return tuple(
            call for block in self.blocks if isinstance(block, Round) for call in block.calls
        )

    def elapsed_s(self, now: datetime) -> float:
        """Seconds since a worker took the run (or since its submit, before that)."""
        start = self.started_at or self.created_at or now
        return ((self.finished_at or now) - start).total_seconds()

    def is_settled(self, index: int) -> bool:
        """Whether no event will change the block, nor put another one before it.

        The last block may turn out to be what the ending says, which has a place of its own: the
        answer if it is a round without calls, or the reason if it is an error.
        """
        block, is_last = self.blocks[index], index == len(self.blocks) - 1
        if self.status.is_final:
            return True
        if isinstance(block, Note):
            return not (block.is_error and is_last)
        return block.is_stored and not block.has_open_calls and not (is_last and not block.calls)
