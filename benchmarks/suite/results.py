"""Results as files: one of JSON for each measurement."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from benchmarks.suite.machine import Machine
from benchmarks.suite.measured import Measured


@dataclass(frozen=True)
class Result:
    """What a measurement came to, when and where."""

    name: str
    title: str
    measured: Measured
    machine: Machine
    measured_at: str
    """A date, as in 2026-01-31 (UTC)."""
    took_s: float
    is_quick: bool = False
    """A tiny version of it, which says nothing about speed."""


_JSON: Final = TypeAdapter(Result)


def write_result(result: Result, folder: Path) -> Path:
    """Write NAME.json, in the place of an older one."""
    path = folder / f"{result.name}.json"
    path.write_bytes(_JSON.dump_json(result, indent=2) + b"\n")
    return path


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote."""
    return _JSON.validate_json(path.read_bytes())
