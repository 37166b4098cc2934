"""Following a run: every event of it to a viewer, until the run has ended or Ctrl-C is pressed."""

import asyncio
import shlex
import sys
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Self

import typer
from rich.console import Console

from agent_client.cli.exit_code import ExitCode, of_status
from agent_client.cli.output import event_json, outcome_json, print_json
from agent_client.handle import AsyncRun
from agent_client.live_view import LiveRun, Viewer, after, choose_viewer, ended, render_svg, resumed
from agent_client.merging import parse_cursor
from shared.event import RunEvent
from shared.message import Message
from shared.run import Run


async def follow(
    run: AsyncRun, *, cursor: str | None = None, as_json: bool = False, svg: Path | None = None
) -> ExitCode:
    """Show a run from its beginning, or behind the cursor of an event, to its end.

    Raises:
        UnknownRunError: There is no such run.
        InvalidCursorError: It is not the cursor of an event.
    """
    viewer: Viewer | None = None
    try:
        viewer = await _open_viewer(run, cursor, as_json=as_json)
        await _show(run, cursor, viewer)
    except asyncio.CancelledError:  # what Ctrl-C becomes inside of the event loop
        last_seen = viewer.run.cursor if viewer is not None else None
        _say_how_to_come_back(run.id, last_seen or cursor)
        raise
    if svg is not None:
        _save(svg, render_svg(viewer.run))
    return of_status(viewer.run.status)


class JsonViewer:
    """One JSON object for each event, and one for the outcome."""

    def __init__(self, run: LiveRun) -> None:
        self.run = run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, event: RunEvent) -> None:
        """Print the event."""
        self.run = after(self.run, event)
        print_json(event_json(event))

    def end(self, run: Run) -> None:
        """Print the outcome."""
        self.run = ended(self.run, run)
        print_json(outcome_json(run))


async def _open_viewer(run: AsyncRun, cursor: str | None, *, as_json: bool) -> Viewer:
    record = await run.get()
    state = LiveRun.of(record)
    if as_json:
        return JsonViewer(state)
    if cursor is not None:
        state = resumed(state, record, await _seen_before(run, cursor))
    return choose_viewer(state, Console(file=sys.stdout))


async def _show(run: AsyncRun, cursor: str | None, viewer: Viewer) -> None:
    with viewer:
        async with aclosing(run.events(cursor)) as events:
            async for event in events:
                viewer.show(event)
        viewer.end(await run.get())


def _save(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"--svg: {error}.") from error


def _say_how_to_come_back(run_id: str, cursor: str | None) -> None:
    command = ["agent-client", "watch", run_id]
    if cursor is not None:
        command += ["--after", cursor]
    typer.echo("\nNot watching any more; the run goes on. To come back:", err=True)
    typer.echo(f"  {shlex.join(command)}", err=True)


async def _seen_before(run: AsyncRun, cursor: str) -> list[Message]:
    """The messages up to a cursor, so that results which follow find their calls."""
    last_seen, _ = parse_cursor(cursor)
    messages = await run.history()
    for index, message in enumerate(messages):
        if message.cursor == last_seen:
            return messages[: index + 1]
    return []
