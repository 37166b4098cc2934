"""Rows as a table, and names and numbers in it as people write them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.suite.measured import Condition, Row

UNITS: Final[Mapping[str, str]] = {
    "s": "s",
    "ms": "ms",
    "us": "µs",
    "bytes": "bytes",
    "kib": "KiB",
    "mib": "MiB",
}
_WORDS: Final = {"cpu": "CPU", "redis": "Redis"}


def heading(name: str) -> str:
    """Say what a name says: `driver_cpu_ms_per_round` is "driver CPU, ms/round"."""
    first, *per = name.split("_per_")
    words = first.split("_")
    unit = UNITS.get(words[-1])
    said = [_WORDS.get(word, word) for word in (words[:-1] if unit else words)]
    denominator = "".join(f"/{UNITS.get(each, each.replace('_', ' '))}" for each in per)
    if unit is None:
        return " ".join(said) + denominator
    return ", ".join(filter(None, (" ".join(said), unit + denominator)))


def number(value: Condition) -> str:
    """Write a value with three digits, or with all those that it has before the point.

    Strings stand as they are.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not value.is_integer():
        digits = 3 - len(str(int(abs(value))))
        return f"{value:.3g}" if abs(value) < 1 else f"{value:,.{max(0, digits)}f}"
    return f"{int(value):,}"


@dataclass(frozen=True)
class Column:
    """One column of a table, as text."""

    heading: str
    cells: tuple[str, ...]
    is_number: bool


def columns(rows: Sequence[Row]) -> list[Column]:
    """Subjects, then conditions and figures in the order in which rows name them, then any notes.

    What a row does not have is left empty.
    """
    made = [Column("", tuple(row.subject for row in rows), is_number=False)]
    for kind in ("conditions", "figures"):
        names = dict.fromkeys(name for row in rows for name in getattr(row, kind))
        made += [
            _column(name, [getattr(row, kind).get(name, "") for row in rows]) for name in names
        ]
    if any(row.note for row in rows):
        made.append(Column("note", tuple(row.note for row in rows), is_number=False))
    return made


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown, one line for each row."""
    table = columns(rows)
    marks = ["---:" if column.is_number else "---" for column in table]
    lines = zip(*(column.cells for column in table), strict=True)
    return "\n".join(map(_line, [[column.heading for column in table], marks, *lines]))


def _column(name: str, values: Sequence[Condition]) -> Column:
    is_number = all(value == "" or not isinstance(value, str) for value in values)
    return Column(heading(name), tuple(map(number, values)), is_number)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
