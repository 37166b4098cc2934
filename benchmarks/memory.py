"""Memory of a process, in MiB, as Linux tells it in /proc (`man 5 proc`).

Not by `getrusage`: its peak counts what the process was before it became this program, its parent.
"""

from pathlib import Path


def resident_mib(pid: int | None) -> float:
    """What it has now."""
    return _status_mib(pid, "VmRSS")


def peak_mib(pid: int | None) -> float:
    """The most that it has had."""
    return _status_mib(pid, "VmHWM")


def _status_mib(pid: int | None, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{field} is not in /proc/{pid}/status")
