"""Processes that outlive whoever started them, and are ended later without hitting another."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

_POLL_S: Final = 0.02


class OwnedProcess(BaseModel):
    """A process as it was when it was started. Ids are used again, so its birth goes with it."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    birth: str

    @classmethod
    def find(cls, name: str, pid: int) -> Self | None:
        """The process that has this id now, if there is one."""
        birth = read_birth(pid)
        return cls(name=name, pid=pid, birth=birth) if birth is not None else None

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; another process that got its id does not count."""
        return read_birth(self.pid) == self.birth

    def stop(self, patience_s: float) -> bool:
        """End it: SIGTERM, then SIGKILL if that takes too long. Returns whether it was there."""
        if not self.is_alive:
            return False
        os.kill(self.pid, signal.SIGTERM)
        if not self._ends_within(patience_s) and self.is_alive:
            os.kill(self.pid, signal.SIGKILL)
            self._ends_within(patience_s)
        return True

    def _ends_within(self, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while self.is_alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True


def read_birth(pid: int) -> str | None:
    """When a process was started, in the words of its system; None for one that has ended."""
    if not Path("/proc/self/stat").exists():
        return _read_birth_from_ps(pid)
    try:
        # Behind the name, which may hold anything: the state first, 19 fields later the start, in
        # clock ticks since this machine was booted.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def _read_birth_from_ps(pid: int) -> str | None:
    answer = subprocess.run(  # noqa: S603 - the argument is a number
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],  # noqa: S607 - part of every such system
        capture_output=True,
        check=False,
        text=True,
    )
    state, _, birth = answer.stdout.strip().partition(" ")
    return birth.strip() if birth and not state.startswith("Z") else None
