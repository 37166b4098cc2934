"""What a measurement hands back: rows of figures, what was skipped, the plots to draw of them."""

from collections.abc import Mapping
from dataclasses import dataclass

Condition = str | int | float


@dataclass(frozen=True)
class Row:
    """Figures of one subject under one set of conditions; the names of both carry their units."""

    subject: str
    """Who was measured: "celery-agents", "bare loop", "taskiq"."""
    conditions: Mapping[str, Condition]
    """Under which: {"runs": 400, "rounds": 5, "latency_s": 0.1, "workers": 1}."""
    figures: Mapping[str, float]
    """What came out: {"wall_s": 1.2, "rounds_per_s": 1650.0, "p99_ms": 8.1}."""
    note: str = ""


@dataclass(frozen=True)
class Skipped:
    """What could not be measured here."""

    subject: str
    reason: str


@dataclass(frozen=True)
class Bars:
    """A plot of horizontal bars: one figure, one bar for each row that has it."""

    title: str
    figure: str
    unit: str
    group_by: str = ""
    """A condition: the bars of each of its values stand together. Empty: all stand together."""
    is_log: bool = False


@dataclass(frozen=True)
class Lines:
    """A plot of figures over a numeric condition (on a log scale), one line for each subject."""

    title: str
    x: str
    """The condition."""
    figures: tuple[str, ...]
    """All of one unit. Where there are several, each has a line for each subject."""
    unit: str


Plot = Bars | Lines


@dataclass(frozen=True)
class Measured:
    """All of one measurement."""

    rows: tuple[Row, ...]
    skipped: tuple[Skipped, ...] = ()
    plots: tuple[Plot, ...] = ()
    explanation: str = ""
    """A short paragraph in Markdown: what was measured, and how."""
