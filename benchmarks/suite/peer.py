"""A peer: another system at the same work, as its folder describes it, and its environment."""

import hashlib
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from packaging.specifiers import SpecifierSet
from pydantic import TypeAdapter

from benchmarks.suite.stage import UnavailableError
from benchmarks.system import REPOSITORY

PEERS: Final = REPOSITORY / "benchmarks" / "peers"
ENVIRONMENTS: Final = REPOSITORY / ".bench"
DESCRIPTION: Final = "peer.toml"
INSTALL_TIMEOUT_S: Final = 900.0

Need = Literal["redis", "postgresql", "npm"]


@dataclass(frozen=True)
class Description:
    """What stands in `peer.toml`."""

    name: str
    needs: tuple[Need, ...]
    python: str
    """The versions that it runs on, as in `>=3.11`."""
    persists: bool
    """Each message is stored the moment it exists."""
    watches: bool
    """Others can see messages live."""
    resumes: bool
    """The run of a worker that was killed goes on where it was."""
    note: str
    """How it is set up, and what it does not do."""
    variants: tuple[str, ...] = ("",)
    workers: tuple[int, ...] = ()
    """Numbers of worker processes that it can have; empty: any."""


@dataclass(frozen=True)
class Peer:
    """A folder with `peer.toml`, `requirements.txt` and `runner.py`."""

    folder: Path
    description: Description

    @property
    def environment(self) -> Path:
        """Where its own Python lives, with what it requires."""
        return ENVIRONMENTS / self.folder.name

    @property
    def python(self) -> Path:
        """That Python."""
        return self.environment / "bin" / "python"

    def prepare(self) -> None:
        """Make its environment, unless it is there and its requirements are the same.

        Raises:
            UnavailableError: This machine lacks something, or the installation failed.
        """
        if platform.python_version() not in SpecifierSet(self.description.python):
            raise UnavailableError(f"needs Python {self.description.python}")
        if "npm" in self.description.needs and shutil.which("npm") is None:
            raise UnavailableError("needs npm")
        requirements = self.folder / "requirements.txt"
        known = f"{platform.python_version()}\n{requirements.read_text()}"
        stamp = self.environment / f".installed-{hashlib.sha256(known.encode()).hexdigest()[:16]}"
        if stamp.exists():
            return
        _run([sys.executable, "-m", "venv", "--clear", str(self.environment)])
        pip = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "--requirement", str(requirements)])
        stamp.touch()


def find_peers(folder: Path = PEERS) -> list[Peer]:
    """All peers, by the names of their folders.

    Raises:
        pydantic.ValidationError: One describes itself in another way.
    """
    descriptions = TypeAdapter(Description)
    return [
        Peer(path.parent, descriptions.validate_python(tomllib.loads(path.read_text())))
        for path in sorted(folder.glob(f"*/{DESCRIPTION}"))
    ]


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603  Python and pip, over files of this repository
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"not installed within {INSTALL_TIMEOUT_S:g} s") from error
    if done.returncode:
        lines = done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UnavailableError(f"cannot be installed: {lines[-1]}")
