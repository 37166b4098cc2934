"""A system that is left running: what `up` starts and writes down, and what `down` stops."""

import fcntl
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from examples.quickstart.process import OwnedProcess
from examples.quickstart.show import program
from examples.quickstart.system import (
    PATIENCE_S,
    PREFERRED_PORT,
    REPOSITORY,
    URL_VARIABLE,
    System,
)

FOLDER: Final = REPOSITORY / ".agents"


class Record(BaseModel):
    """What was left running, in the order in which it is to be stopped."""

    model_config = ConfigDict(frozen=True)

    url: str
    processes: tuple[OwnedProcess, ...]

    @property
    def is_alive(self) -> bool:
        """Whether there is a worker, and all of it still runs."""
        return "worker" in self.names and all(process.is_alive for process in self.processes)

    @property
    def names(self) -> set[str]:
        """What there is: a worker, and Redis unless it is somebody else's."""
        return {process.name for process in self.processes}

    def stop(self) -> None:
        """Stop what still runs of it."""
        for process in self.processes:
            was_there = process.stop(PATIENCE_S)
            print(f"{process.name} {process.pid}: {'stopped' if was_there else 'had ended'}")


class LeftRunning:
    """The system of one folder: its data, logs, process ids, and a line for shells to read."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._record_file = folder / "system.json"
        self._environment_file = folder / "env"

    def bring_up(self) -> int:
        """Start Redis and a worker, unless they run, and leave them; return the exit code."""
        with self._locked_folder():
            record = self._read_record()
            if record is not None and record.is_alive:
                print("It runs already.")
            else:
                if record is not None:
                    record.stop()
                record = self._start()
        self._print_hints(record)
        return 0

    def take_down(self) -> int:
        """Stop exactly what `bring_up` started; data and logs stay. Returns the exit code."""
        with self._locked_folder():
            record = self._read_record()
            if record is None:
                print("Nothing is running that `up` started.")
            else:
                record.stop()
            self._forget()
        return 0

    def _start(self) -> Record:
        system = System(self._folder)
        try:
            system.start_redis((PREFERRED_PORT, 0))
            self._write_record(system)
            system.start_worker()
            record = self._write_record(system)
            system.wait_ready()
        except BaseException:
            system.stop()
            self._forget()
            print(system.last_words(), file=sys.stderr)
            raise
        return record

    def _print_hints(self, record: Record) -> None:
        running = ", ".join(f"{process.name} (pid {process.pid})" for process in record.processes)
        print(f"Running: {running}. Data, logs and process ids are in {self._folder.name}/.\n")
        if "redis" in record.names:  # else it is known already, and may hold a password
            print(f"    {_export(record.url)}\n")
        print(f"""\
Then, for example:

    {program("agent-client")} submit travel "Rome for three" --conversation you
    {program("agent-client")} submit travel "Make it Berlin instead" --conversation you
    {program("uvicorn")} examples.app_server.app:app --port 8000
    make down""")

    @contextmanager
    def _locked_folder(self) -> Iterator[None]:
        """The folder, for one process at a time: two `up` at once would start two systems."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        (self._folder / ".gitignore").write_text("*\n")
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read_record(self) -> Record | None:
        if not self._record_file.exists():
            return None
        return Record.model_validate_json(self._record_file.read_text())

    def _write_record(self, system: System) -> Record:
        record = Record(url=system.url, processes=system.processes)
        self._record_file.write_text(record.model_dump_json(indent=2))
        self._environment_file.write_text(f"{_export(record.url)}\n")
        return record

    def _forget(self) -> None:
        self._record_file.unlink(missing_ok=True)
        self._environment_file.unlink(missing_ok=True)


def _export(url: str) -> str:
    return f"export {URL_VARIABLE}={shlex.quote(url)}"
