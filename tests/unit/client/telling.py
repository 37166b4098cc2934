"""Runs as their events tell them: what the tests of the live view are made of."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from agent_client.live_view import (
    LiveRun,
    Note,
    PlainViewer,
    Round,
    ScreenViewer,
    after,
    ended,
)
from shared.event import DeltaEvent, MessageEvent, RunEvent, StatusEvent
from shared.message import (
    Draft,
    Message,
    MessageKind,
    Role,
    ToolCall,
    ToolOutcome,
    Usage,
)
from shared.run import Run, RunStatus

RUN_ID = "run-3-0192f0c1a2b37d4e5f60718293a4b5c6"
START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOSTILE = (
    "\x1b[2J\x1b]0;pwned\x07\x1b]8;;http://evil\x1b\\click\x1b[31m red [bold]markup[/bold] "
    "\u202eright to left\r\nnext\x9b1mline\x00 :smile: 东京 👩‍👩‍👧 " + "word" * 60
)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def status(at_s: float, status: RunStatus, attempt: int = 1, **fields: Any) -> StatusEvent:
    worker = f"worker-{attempt}" if attempt else None
    return StatusEvent(
        run_id=RUN_ID,
        status=status,
        attempt=attempt,
        worker_id=worker,
        created_at=at(at_s),
        **fields,
    )


def delta(text: str, position: int, attempt: int = 1) -> DeltaEvent:
    return DeltaEvent(run_id=RUN_ID, text=text, position=position, attempt=attempt)


def stored(
    at_s: float, position: int, role: Role, content: Any = None, **fields: Any
) -> MessageEvent:
    draft = Draft(role=role, content=content, **fields)
    message = Message.from_draft(draft, run_id=RUN_ID, position=position)
    message = message.model_copy(update={"created_at": at(at_s), "cursor": f"{position + 1}-0"})
    return MessageEvent(run_id=RUN_ID, message=message, cursor=f"{position + 1}-0|1-0")


def asks(
    at_s: float, position: int, *calls: tuple[str, str], text: str | None = None
) -> MessageEvent:
    """An assistant's message with calls that all have one id, as careless providers give them."""
    return stored(
        at_s,
        position,
        Role.ASSISTANT,
        text,
        kind=MessageKind.TOOL_CALL,
        tool_calls=tuple(ToolCall(id="call", name=name, arguments=json) for name, json in calls),
        usage=Usage(input_tokens=1000, output_tokens=10),
    )


def answers(
    at_s: float, position: int, name: str, content: Any, outcome: ToolOutcome = ToolOutcome.SUCCESS
) -> MessageEvent:
    return stored(
        at_s,
        position,
        Role.TOOL,
        content,
        kind=MessageKind.TOOL_RESULT,
        tool_name=name,
        tool_call_id="call",
        outcome=outcome,
    )


def record(**fields: Any) -> Run:
    values: dict[str, Any] = {
        "id": RUN_ID,
        "agent": "desk",
        "input": "Paris or Rome?",
        "conversation_id": "web:ada",
        "created_at": at(0),
        "started_at": at(0.2),
        "finished_at": at(9.2),
        "status": RunStatus.COMPLETED,
        "attempts": 1,
        "rounds": 2,
        "output": "Rome.",
        "usage": Usage(input_tokens=2216, output_tokens=20),
    }
    return Run(**(values | fields))


def told(*events: RunEvent) -> LiveRun:
    run = LiveRun.of(record())
    for event in events:
        run = after(run, event)
    return run


def story() -> list[RunEvent]:
    """A run of two rounds with two calls of one tool at once."""
    return [
        status(0, RunStatus.QUEUED, attempt=0),
        status(0.2, RunStatus.RUNNING),
        stored(0.3, 0, Role.USER, "Paris or Rome?"),
        delta("Let me ", 1),
        delta("look.", 1),
        asks(
            1,
            1,
            ("weather", '{"city": "Paris"}'),
            ("weather", '{"city": "Rome"}'),
            text="Let me look.",
        ),
        answers(1.5, 2, "weather", "rain"),
        answers(3, 3, "weather", "Timeout\nafter 2 s", ToolOutcome.FAILED),
        delta("Rome.", 4),
        stored(9, 4, Role.ASSISTANT, "Rome.", usage=Usage(input_tokens=1216, output_tokens=10)),
        status(9.2, RunStatus.COMPLETED),
    ]


def rounds(run: LiveRun) -> list[Round]:
    return [block for block in run.blocks if isinstance(block, Round)]


def notes(run: LiveRun) -> list[str]:
    return [block.text for block in run.blocks if isinstance(block, Note)]


def watch(viewer: PlainViewer | ScreenViewer, events: Sequence[RunEvent], end: Run) -> None:
    with viewer:
        for event in events:
            viewer.show(event)
        viewer.end(end)


def hostile_events() -> list[RunEvent]:
    positions = count()
    return [
        stored(0, next(positions), Role.USER, HOSTILE),
        delta(HOSTILE, 1),
        asks(
            1,
            next(positions),
            (HOSTILE, HOSTILE),
            ("weather", f'{{"{"k" * 90}": "v"}}'),
            text=HOSTILE,
        ),
        answers(2, next(positions), "weather", HOSTILE, ToolOutcome.RETRY),
        answers(3, next(positions), HOSTILE, HOSTILE, ToolOutcome.CANCELLED),
        stored(4, next(positions), Role.SYSTEM, HOSTILE),
    ]


def hostile_run() -> LiveRun:
    run = LiveRun.of(record(agent=HOSTILE, input=HOSTILE, conversation_id="web:" + "a" * 190))
    for event in hostile_events():
        run = after(run, event)
    return ended(run, record(output=HOSTILE))
