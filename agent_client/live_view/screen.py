"""How a run looks on a terminal: pure functions from a state and the time to what rich draws.

Text of models and tools only enters as `Text` (never as markup) and through `clean`.
"""

from collections.abc import Iterator
from datetime import datetime, tzinfo
from typing import Final

from rich.box import ROUNDED
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from agent_client.live_view.state import Block, Call, LiveRun, Note, Round
from agent_client.live_view.text import (
    call_text,
    clean,
    content_text,
    count_text,
    duration_text,
    one_line,
    summary_text,
    value_text,
)
from shared.message import Message, MessageKind, Role, ToolOutcome
from shared.run import RunStatus

_SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_S: Final = 10
_LINE_LENGTH: Final = 400
"""Characters that the widest of terminals may show of one line; rich cuts it to the width."""
_STREAM_LENGTH: Final = 8_000
"""Characters that are drawn of a text that is being written: more would be off the screen."""

_CALL_MARKS: Final = {
    ToolOutcome.SUCCESS: ("✓", "green"),
    ToolOutcome.FAILED: ("✗", "red"),
    ToolOutcome.RETRY: ("↻", "yellow"),
    ToolOutcome.CANCELLED: ("■", "dim"),
}
_ROLE_STYLES: Final = {
    Role.USER: "bold cyan",
    Role.ASSISTANT: "bold",
    Role.TOOL: "dim",
    Role.SYSTEM: "bold yellow",
}
_STATUS_MARKS: Final = {
    RunStatus.COMPLETED: ("✓", "green"),
    RunStatus.FAILED: ("✗", "red"),
    RunStatus.CANCELLED: ("■", "yellow"),
}


def draw_header(run: LiveRun) -> RenderableType:
    """Whose run this is, and what it was asked."""
    first = Text(one_line(run.agent or "run", _LINE_LENGTH), style="bold")
    if run.conversation_id:
        first.append(f"  in {one_line(run.conversation_id, _LINE_LENGTH)}", style="not bold dim")
    lines: list[RenderableType] = [_fitting(first), Text(clean(run.run_id), "dim", overflow="fold")]
    if run.input:
        lines.append(_beside(Text("▸", "cyan"), _prose(run.input)))
    if run.earlier_rounds:
        lines += [Text(), Text(f"… {count_text(run.earlier_rounds, 'round')} before this", "dim")]
    return Group(*lines)


def draw_block(run: LiveRun, index: int, now: datetime) -> RenderableType:
    """One round or note, with an empty line before it."""
    block = run.blocks[index]
    if isinstance(block, Note):
        mark = Text("!", "red" if block.is_error else "yellow")
        return Group(Text(), _beside(mark, _prose(block.text)))
    rows: list[RenderableType] = []
    if block.text:
        # Cut from the front while it grows: what is being written is at its end.
        rows.append(_prose(block.text if block.is_stored else block.text[-_STREAM_LENGTH:]))
    rows += [_draw_call(call, now) for call in block.calls]
    number = run.earlier_rounds + sum(isinstance(each, Round) for each in run.blocks[: index + 1])
    return Group(Text(), _beside(Text(str(number), "dim"), Group(*rows)))


def draw_bar(run: LiveRun, now: datetime) -> RenderableType:
    """The last line: status, time, and what the run took so far. The most important comes first."""
    mark, style = _STATUS_MARKS.get(run.status, (_spin(now), "cyan"))
    parts = [run.status.value, duration_text(run.elapsed_s(now))]
    if run.status is RunStatus.QUEUED:
        parts[0] = "queued, waiting for a worker"
    if run.rounds:
        parts.append(count_text(run.rounds, "round"))
    if run.calls:
        parts.append(count_text(len(run.calls), "tool"))
    if run.input_tokens or run.output_tokens:
        parts.append(f"{run.input_tokens:,} tokens in, {run.output_tokens:,} out")
    details = "".join(f" · {part}" for part in parts[1:])
    line = Text.assemble((f"{mark} {parts[0]}", style), (details, "dim"))
    return Group(Text(), _fitting(line))


def draw_ending(run: LiveRun) -> RenderableType:
    """The answer, or why there is none. Nothing for a run that was cancelled, or that goes on."""
    if run.status is RunStatus.FAILED:
        code, message = (run.error.code, run.error.message) if run.error else ("failed", "")
        return Group(Text(), _panel(_prose(message), code, "red"))
    if run.status is RunStatus.COMPLETED and run.output is not None:
        return Group(Text(), _panel(_prose(value_text(run.output)), "answer", "green"))
    return Group()


def draw_message(message: Message, zone: tzinfo | None = None) -> RenderableType:
    """A stored message on its own: who said it and when, and what."""
    at = f"{message.created_at.astimezone(zone):%Y-%m-%d %H:%M:%S}"
    head = Text.assemble((message.role.value, _ROLE_STYLES[message.role]), ("  " + at, "dim"))
    is_summary = message.kind is MessageKind.SUMMARY
    text = summary_text(message) if is_summary else content_text(message.content)
    if message.role is Role.TOOL:
        mark, style = _CALL_MARKS[message.outcome or ToolOutcome.SUCCESS]
        name = one_line(message.tool_name or "", _LINE_LENGTH)
        head = Text.assemble((f"{mark} ", style), name, "  ").append_text(head)
        rows = [_fitting(Text(one_line(text, _LINE_LENGTH), "dim"))]
    else:
        rows = [_prose(text)] if text else []
    rows += [
        _fitting(Text(call_text(call.name, call.arguments, _LINE_LENGTH), "dim"))
        for call in message.tool_calls
    ]
    return Group(_fitting(head), *rows, Text())


def is_repeated_below(run: LiveRun, block: Block) -> bool:
    """Whether the ending says what this block says, so that it need not be drawn twice."""
    if block is not run.blocks[-1]:
        return False
    if isinstance(block, Note):
        return block.is_error and run.error is not None
    return not block.calls and run.status is RunStatus.COMPLETED and block.text == run.output


def draw_blocks(run: LiveRun, first: int, last: int, now: datetime) -> RenderableType:
    """The blocks from index `first` to before `last`, without the one that the ending repeats."""
    return Group(
        *(
            draw_block(run, index, now)
            for index in range(first, last)
            if not is_repeated_below(run, run.blocks[index])
        )
    )


def draw_report(run: LiveRun, now: datetime) -> RenderableType:
    """The whole run, from top to bottom."""
    blocks = draw_blocks(run, 0, len(run.blocks), now)
    return Group(draw_header(run), blocks, draw_ending(run), draw_bar(run, now))


class Tail:
    """The last lines of something that may be taller than there is room."""

    def __init__(self, content: RenderableType, height: int) -> None:
        self._content = content
        self._height = max(height, 2)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._content, options.update(height=None), pad=False)
        hidden = len(lines) - self._height
        if hidden > 0:
            lines = lines[hidden + 1 :]
            yield Text(f"… {count_text(hidden + 1, 'line')} above", "dim")
        yield from _segments(lines)


def _segments(lines: list[list[Segment]]) -> Iterator[Segment]:
    for line in lines:
        yield from line
        yield Segment.line()


def _draw_call(call: Call, now: datetime) -> RenderableType:
    mark, style = (_spin(now), "cyan") if call.outcome is None else _CALL_MARKS[call.outcome]
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(width=1)
    row.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    row.add_column(justify="right", no_wrap=True)
    name, bracket, arguments = call_text(call.name, call.arguments, _LINE_LENGTH).partition("(")
    what = Text.assemble((name, "bold"), (bracket + arguments, "dim"))
    row.add_row(Text(mark, style), what, Text(duration_text(call.took_s(now)), "dim"))
    if not call.is_open:
        result_style = "red" if call.outcome is ToolOutcome.FAILED else "dim"
        row.add_row(Text(), Text(one_line(call.result, _LINE_LENGTH) or "(nothing)", result_style))
    return row


def _spin(now: datetime) -> str:
    return _SPINNER[int(now.timestamp() * _FRAMES_PER_S) % len(_SPINNER)]


def _prose(text: str) -> Text:
    """Text over as many lines as it takes; a word that is too long is broken."""
    return Text(clean(text).strip("\n"), overflow="fold")


def _fitting(line: Text) -> Text:
    """A line that is cut rather than wrapped."""
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _panel(content: RenderableType, title: str, style: str) -> Panel:
    return Panel(content, title=Text(title), title_align="left", border_style=style, box=ROUNDED)


def _beside(mark: Text, content: RenderableType) -> RenderableType:
    """A narrow column on the left, such as a round's number, and the content beside it."""
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(width=max(len(mark), 1), justify="right")
    grid.add_column(ratio=1)
    grid.add_row(mark, content)
    return grid
