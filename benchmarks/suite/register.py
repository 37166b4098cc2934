"""The register: which measurements there are, in the order in which they are shown.

One measurement is one module of `benchmarks.measures` with `NAME`, `TITLE` and `measure(stage)`. It
is imported when it is asked for, so that one that cannot be imported spoils no other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from benchmarks.suite.measured import Measured
from benchmarks.suite.stage import Stage

NAMES: Final = (
    "throughput",
    "peers",
    "latency",
    "submit",
    "watchers",
    "growth",
    "layers",
    "commands",
    "in_flight",
    "recovery",
)


@dataclass(frozen=True)
class Measurement:
    """One measurement."""

    name: str
    title: str
    measure: Callable[[Stage], Measured]


def load(name: str) -> Measurement:
    """Import one of them."""
    module = import_module(f"benchmarks.measures.{name}")
    return Measurement(module.NAME, module.TITLE, module.measure)
