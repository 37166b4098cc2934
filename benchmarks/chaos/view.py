"""The live view: on a terminal a table that changes, elsewhere a line now and then."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks.chaos.faults import Faults
from benchmarks.chaos.load import Load
from benchmarks.chaos.site import Site

LOOK_S: Final = 0.5
LINE_S: Final = 10.0


class View:
    """Shows how far load and faults have come."""

    def __init__(self, site: Site, load: Load, faults: Faults, *, runs: int) -> None:
        self.phase = "starting"
        self._site = site
        self._load = load
        self._faults = faults
        self._runs = runs
        self._began = time.monotonic()

    @asynccontextmanager
    async def shown(self, console: Console) -> AsyncGenerator[None]:
        """Show it while the block runs."""
        show = self._live(console) if console.is_terminal else self._lines(console)
        task = asyncio.create_task(show, name="view")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _live(self, console: Console) -> None:
        with Live(self._table(), console=console, transient=True, auto_refresh=False) as live:
            while True:
                live.update(self._table(), refresh=True)
                await asyncio.sleep(LOOK_S)

    async def _lines(self, console: Console) -> None:
        while True:
            line = ", ".join(f"{name} {value}" for name, value in self._rows())
            console.print(line, highlight=False, soft_wrap=True)
            await asyncio.sleep(LINE_S)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, value in self._rows():
            table.add_row(name, value)
        return table

    def _rows(self) -> list[tuple[str, str]]:
        notes = self._load.notes
        done = Counter(harm.kind.value for harm in self._faults.harms)
        errors = Counter(told.error for told in notes.told if told.error is not None)
        return [
            (f"{time.monotonic() - self._began:.0f} s:", self.phase),
            ("accepted", f"{len(notes.accepted)} of {self._runs}"),
            ("ended", f"{len(notes.outcomes)}"),
            ("refused", " ".join(f"{name}:{count}" for name, count in errors.items()) or "0"),
            ("workers", " ".join(worker.state for worker in self._site.workers)),
            ("faults", " ".join(f"{name}:{count}" for name, count in sorted(done.items())) or "0"),
        ]
