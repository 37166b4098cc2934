"""How far a transfer is: a bar on a terminal, a line now and then elsewhere, on standard error."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.transfer.value import OnProgress
from shared.transfer.value import Progress as Told

_EVERY_S: Final = 2.0
"""Between two lines where there is no bar."""


@contextmanager
def told(doing: str) -> Iterator[OnProgress]:
    """Show what is passed to it until the end; `doing` is what happens, such as ``Migrating``."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(doing)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[details]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(doing, total=None, details="")

        def show(progress: Told) -> None:
            bar.update(
                task,
                total=progress.total or None,
                completed=progress.done,
                details=_details(progress),
            )

        yield show


class _Lines:
    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._said_at = time.monotonic()

    def __call__(self, progress: Told) -> None:
        now = time.monotonic()
        if now - self._said_at >= _EVERY_S:
            self._said_at = now
            typer.echo(
                f"{self._doing}: {progress.done} of {progress.total} conversations, "
                f"{_details(progress)}",
                err=True,
            )


def _details(progress: Told) -> str:
    parts = [f"{progress.messages:,} messages", f"{progress.size / 1e6:,.1f} MB"]
    if progress.failures:
        parts.append(f"{progress.failures} failed")
    return ", ".join(parts)
