"""Closing a run's messages, so that every provider accepts the history that it leaves behind.

All of this is a function of what is stored already. So a worker that takes over in the middle of a
closing comes to the same messages, and the store skips those that are there.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from agent_worker.saying import named
from shared.message import (
    Draft,
    Message,
    MessageKind,
    Role,
    ToolCall,
    ToolOutcome,
    Usage,
    tool_result_draft,
)
from shared.run import Ending, RunError, RunStatus
from shared.spending import spending_of

MAX_ERROR_LENGTH: Final = 2000
"""Characters of an exception's text that go into a run's error and into its history."""


def open_calls(messages: Iterable[Draft]) -> tuple[ToolCall, ...]:
    """The calls of the last assistant's message that have no result yet.

    Ids repeat across messages, and careless providers repeat them within one: there the tool's
    name decides, then the order.
    """
    calls: list[ToolCall] = []
    for message in messages:
        if message.role is Role.ASSISTANT:
            calls = list(message.tool_calls)
        elif message.role is Role.TOOL:
            answered = [call for call in calls if call.id == message.tool_call_id]
            named = (call for call in answered if call.name == message.tool_name)
            if answered:
                calls.remove(next(named, answered[0]))
    return tuple(calls)


def closing_drafts(messages: Sequence[Message], ending: Ending) -> list[Draft]:
    """What is missing at the end of a run: results of open calls, and a note if the run failed."""
    text = f"The run {_reason(ending)} before this tool ended. It may have taken effect."
    drafts = [
        tool_result_draft(call, text, outcome=ToolOutcome.CANCELLED)
        for call in open_calls(messages)
    ]
    if ending.error is not None and recorded_error(messages) is None:
        drafts.append(_error_draft(ending.error))
    return drafts


def recorded_error(messages: Sequence[Message]) -> RunError | None:
    """The error that an earlier worker noted as the run's end, before it could finish the run."""
    if not messages or messages[-1].kind is not MessageKind.ERROR:
        return None
    noted = messages[-1].metadata
    return RunError(
        code=str(noted.get("code", "internal_error")),
        message=str(noted.get("message", messages[-1].text)),
    )


def describe(error: BaseException) -> str:
    """An exception as a run's error states it: its type and what it says, within bounds."""
    return named(error)[:MAX_ERROR_LENGTH]


def failed(code: str, message: str) -> Ending:
    """The ending of a run that failed; `code` is snake case."""
    error = RunError(code=code, message=message[:MAX_ERROR_LENGTH])
    return Ending(status=RunStatus.FAILED, error=error)


def account(ending: Ending, messages: Iterable[Message]) -> Ending:
    """The ending with what the run took, by its stored messages: under all leases, each call once.

    Usage and rounds of a run that completed are what its engine reported.
    """
    stored = list(messages)
    changes: dict[str, object] = {"spending": spending_of(stored)}
    if ending.status is not RunStatus.COMPLETED:
        changes["rounds"] = sum(message.role is Role.ASSISTANT for message in stored)
        # Tool results have one as well: the call itself, and what agents within the tool took.
        changes["usage"] = sum((message.usage or Usage() for message in stored), Usage())
    return ending.model_copy(update=changes)


def summaries_usage(messages: Iterable[Message]) -> Usage:
    """What a run took besides its engine: the summaries that it wrote."""
    written = (one for one in messages if one.kind is MessageKind.SUMMARY)
    return sum((one.usage or Usage() for one in written), Usage())


def _reason(ending: Ending) -> str:
    if ending.error is not None:
        return f"failed ({ending.error.code})"
    return "was cancelled" if ending.status is RunStatus.CANCELLED else "ended"


def _error_draft(error: RunError) -> Draft:
    return Draft(
        role=Role.SYSTEM,
        kind=MessageKind.ERROR,
        content=f"The run failed ({error.code}): {error.message}",
        metadata={"code": error.code, "message": error.message},
    )
