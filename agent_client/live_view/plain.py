"""How a run looks where there is no terminal: one line with a time for each event, no colours."""

from datetime import UTC, datetime, tzinfo
from typing import Final

from agent_client.live_view.reduction import ROLLED_BACK
from agent_client.live_view.state import LiveRun
from agent_client.live_view.text import (
    call_text,
    content_text,
    count_text,
    duration_text,
    one_line,
    summary_text,
)
from shared.event import DeltaEvent, RunEvent, StatusEvent
from shared.message import Message, MessageKind, Role, ToolOutcome
from shared.run import RunStatus

_TEXT_LENGTH: Final = 400
_CALL_LENGTH: Final = 200
_OUTCOMES: Final = {
    ToolOutcome.SUCCESS: "✓",
    ToolOutcome.FAILED: "✗",
    ToolOutcome.RETRY: "↻ refused",
    ToolOutcome.CANCELLED: "■ cancelled",
}


def event_line(run: LiveRun, event: RunEvent, zone: tzinfo | None = None) -> str | None:
    """The line for an event; `run` is the state after it. `zone` None is that of this machine.

    None for a text delta: the message that it belongs to follows.
    """
    if isinstance(event, DeltaEvent):
        return None
    if isinstance(event, StatusEvent):
        return _line(event.created_at, zone, "status", _status_text(event))
    took_s = run.last_ended.took_s(event.message.created_at) if run.last_ended else 0.0
    return message_line(event.message, zone, took_s=took_s)


def message_line(
    message: Message, zone: tzinfo | None = None, *, took_s: float = 0.0, with_date: bool = False
) -> str:
    """The line for a message. `took_s` is how long a tool's call took, 0 if that is unknown."""
    is_summary = message.kind is MessageKind.SUMMARY
    text = summary_text(message) if is_summary else content_text(message.content)
    said = one_line(text, _TEXT_LENGTH)
    if message.role is Role.TOOL:
        name = one_line(message.tool_name or "tool", _CALL_LENGTH)
        outcome = _OUTCOMES[message.outcome or ToolOutcome.SUCCESS]
        took = duration_text(took_s) if took_s > 0 else ""
        parts = [f"{name} {outcome}", took, said]
    else:
        calls = ", ".join(
            call_text(call.name, call.arguments, _CALL_LENGTH) for call in message.tool_calls
        )
        parts = [said, f"calls {calls}" if calls else ""]
    line = _line(message.created_at, zone, message.role.value, "  ".join(filter(None, parts)))
    return f"{message.created_at.astimezone(zone):%Y-%m-%d} {line}" if with_date else line


def ending_line(run: LiveRun, zone: tzinfo | None = None) -> str:
    """The last line: what the run took."""
    now = run.finished_at or datetime.now(UTC)
    parts = [
        f"{run.status.value} in {duration_text(run.elapsed_s(now))}",
        count_text(run.rounds, "round"),
        count_text(len(run.calls), "tool"),
        f"{run.input_tokens:,} tokens in, {run.output_tokens:,} out",
    ]
    if run.error is not None:
        parts.append(f"{run.error.code}: {one_line(run.error.message, _TEXT_LENGTH)}")
    return _line(now, zone, "run", ", ".join(parts))


def _line(at: datetime, zone: tzinfo | None, who: str, what: str) -> str:
    time = at.astimezone(zone).isoformat(timespec="milliseconds")[11:23]
    return f"{time}  {who:<9}  {what}".rstrip()


def _status_text(event: StatusEvent) -> str:
    text = event.status.value
    if event.status is RunStatus.RUNNING and event.worker_id:
        text += f" on {event.worker_id}"
        if event.attempt > 1:
            text += (
                f", taken over (attempt {event.attempt}): it goes on after the last stored message"
            )
    elif event.status is RunStatus.QUEUED and event.attempt:
        text += ", waiting for another worker"
    if event.rolled_back:
        text += f", {ROLLED_BACK}"
    return one_line(text, _TEXT_LENGTH)
