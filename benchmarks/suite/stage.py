"""The stage: what a measurement is given to work with."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pytest
from rich.console import Console
from rich.progress import Progress

from shared.embedded_redis import EmbeddedRedis
from tests.topologies.postgres import PostgresServer, run_postgres

T = TypeVar("T")

_DURABLE: Final[Mapping[str, str]] = {"fsync": "on", "full_page_writes": "on"}
"""PostgreSQL as it comes; that of the tests is faster, and loses in a power cut."""


class UnavailableError(Exception):
    """This machine lacks what a measurement needs; the message is the reason to skip it."""


@dataclass(frozen=True)
class Stage:
    """Where one measurement runs."""

    progress: Progress
    folder: Path
    """Empty, for files of the measurement; removed after it."""
    is_quick: bool = False
    """Whether a tiny version is asked for: seconds, to see that everything works."""

    @property
    def console(self) -> Console:
        """What is printed here stands above the bars."""
        return self.progress.console

    def choose(self, full: T, *, quick: T) -> T:
        """The size of something."""
        return quick if self.is_quick else full

    def track(self, steps: Sequence[T], describe: Callable[[T], str] = str) -> Iterator[T]:
        """Go through the steps behind a bar, which says what each one is while it is done."""
        bar = self.progress.add_task("", total=len(steps))
        try:
            for step in steps:
                self.progress.update(bar, description=describe(step))
                yield step
                self.progress.advance(bar)
        finally:
            self.progress.remove_task(bar)

    def new_folder(self) -> Path:
        """Another empty folder, within that of the measurement."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    @contextmanager
    def redis(self, options: Mapping[str, str] | None = None) -> Iterator[EmbeddedRedis]:
        """A Redis of one's own, empty, with an append-only file; `options` as in redis.conf.

        Whole systems come from `benchmarks.system.run_system`, which starts its own.
        """
        with EmbeddedRedis(self.new_folder(), options=options) as server:
            yield server

    @contextmanager
    def postgres(self, options: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
        """A PostgreSQL of one's own, empty, which writes through; `options` of the server.

        Raises:
            UnavailableError: There is none on this machine, or none that may be started.
        """
        with ExitStack() as stack:
            try:
                server = stack.enter_context(run_postgres({**_DURABLE, **(options or {})}))
            except (pytest.skip.Exception, pytest.fail.Exception) as error:
                raise UnavailableError(str(error)) from error
            yield server
