"""The machine: what figures depend on besides the code."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from shared.embedded_redis import find_redis_server
from tests.topologies.postgres import find_postgres

PACKAGES: Final = (
    "celery-agents",
    "celery",
    "kombu",
    "redis",
    "pydantic",
    "pydantic-ai-slim",
    "openai",
    "uvloop",
)


@dataclass(frozen=True)
class Machine:
    """Where something was measured, and with which versions."""

    cpu: str
    cores: int
    """Those that this process may use."""
    memory_gib: float
    system: str
    python: str
    versions: Mapping[str, str]
    """Of packages and servers."""

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB of memory; {self.system}; "
            f"{self.python}"
        )


def this_machine() -> Machine:
    """The one that this runs on."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        system=f"{_distribution()}, {platform.system()} {_kernel()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions={**_packages(), **_servers()},
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown distribution"


def _kernel() -> str:
    """Its version, without what a distribution or a provider adds to it."""
    return platform.release().partition("-")[0]


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _servers() -> dict[str, str]:
    folder = find_postgres()
    servers = {"Redis server": find_redis_server()}
    servers["PostgreSQL server"] = folder / "postgres" if folder is not None else None
    return {name: _version_of(binary) for name, binary in servers.items() if binary is not None}


def _version_of(binary: Path) -> str:
    said = subprocess.run(  # noqa: S603  a server that was found, asked for its version
        [binary, "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "unknown"
