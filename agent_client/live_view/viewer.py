"""Viewers: they are told each event of a run and show it, on a terminal or where there is none."""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from types import TracebackType
from typing import IO, Final, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live

from agent_client.live_view.plain import ending_line, event_line
from agent_client.live_view.reduction import after, ended
from agent_client.live_view.screen import (
    Tail,
    draw_bar,
    draw_blocks,
    draw_ending,
    draw_header,
)
from agent_client.live_view.state import LiveRun
from agent_client.live_view.text import clean, value_text
from shared.event import RunEvent
from shared.run import Run, RunStatus

REFRESHES_PER_S: Final = 10
_BAR_HEIGHT: Final = 3
"""Lines of the bar with the empty ones around it."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


class Viewer(Protocol):
    """Shows a run while it happens. Used as a context manager around all of its events."""

    @property
    def run(self) -> LiveRun:
        """The run as it was shown last."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, event: RunEvent) -> None:
        """Show what just happened."""
        ...

    def end(self, run: Run) -> None:
        """Show how the run ended. Nothing is shown after it."""
        ...


class ScreenViewer:
    """A live picture on a terminal.

    What will not change any more is printed and scrolls away as usual. Only what is still open is
    drawn again and again, with the bar below it, and never more than fits on the screen.
    """

    def __init__(self, run: LiveRun, console: Console, clock: Clock = utc_now) -> None:
        self.run = run
        self._console = console
        self._clock = clock
        self._printed = 0
        # rich draws from a thread of its own. The state is a value, so what it sees is consistent.
        self._live = Live(
            get_renderable=self._draw_open,
            console=console,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._console.print(draw_header(self.run))
        self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()
        if not self.run.status.is_final:  # leave on the screen how far it came
            self._console.print(self._draw_open())

    def show(self, event: RunEvent) -> None:
        """Take the event up; it is drawn within a tenth of a second."""
        self.run = after(self.run, event)
        # The end waits for the run's record: only then it is known what the answer repeats.
        if not self.run.status.is_final:
            self._print_settled()

    def end(self, run: Run) -> None:
        """Print what is left, the answer, and what it took."""
        self.run = ended(self.run, run)
        self._live.stop()
        self._print_settled()
        self._console.print(draw_ending(self.run))
        self._console.print(draw_bar(self.run, self._clock()))

    def _print_settled(self) -> None:
        first = self._printed
        while self._printed < len(self.run.blocks) and self.run.is_settled(self._printed):
            self._printed += 1
        if self._printed == first:
            return
        with self._console:  # in one write, so that no block is seen twice or not at all
            if self._live.is_started:
                self._live.refresh()
            self._console.print(draw_blocks(self.run, first, self._printed, self._clock()))

    def _draw_open(self) -> RenderableType:
        run, now = self.run, self._clock()
        height = self._console.height - _BAR_HEIGHT
        blocks = draw_blocks(run, self._printed, len(run.blocks), now)
        return Group(Tail(blocks, height), draw_bar(run, now))


class PlainViewer:
    """One line for each event, then the answer as it is. `zone` None is that of this machine."""

    def __init__(self, run: LiveRun, file: IO[str], zone: tzinfo | None = None) -> None:
        self.run = run
        self._file = file
        self._zone = zone

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
        """Print the event, unless it is a piece of a text that will come as a whole."""
        self.run = after(self.run, event)
        line = event_line(self.run, event, self._zone)
        if line is not None:
            self._print(line)

    def end(self, run: Run) -> None:
        """Print what the run took, and its answer behind an empty line."""
        self.run = ended(self.run, run)
        self._print(ending_line(self.run, self._zone))
        if run.status is RunStatus.COMPLETED and run.output is not None:
            self._print(f"\n{clean(value_text(run.output))}")

    def _print(self, line: str) -> None:
        print(line, file=self._file, flush=True)


def choose_viewer(run: LiveRun, console: Console) -> Viewer:
    """The picture on a terminal that can show it, plain lines anywhere else."""
    if console.file.isatty() and not console.is_dumb_terminal:
        return ScreenViewer(run, console)
    return PlainViewer(run, console.file)
