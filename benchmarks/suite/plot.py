"""Plots as SVG, by matplotlib: bars over rows, lines over a condition.

Labels say no more than is needed: a condition is named where it tells rows of one subject apart.
The same rows give the same file, byte by byte.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, assert_never

from benchmarks.suite.measured import Bars, Condition, Lines, Plot, Row
from benchmarks.suite.table import heading, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OWN: Final[Mapping[str, str]] = {"celery-agents": "#2563eb", "bare loop": "#9ca3af"}
"""Colours of subjects that are in many plots."""
COLOURS: Final = ("#d97706", "#059669", "#7c3aed", "#dc2626", "#0891b2", "#be185d")
"""Of all others, in the order in which they come; then from the beginning."""
WIDTH_IN: Final = 8.0
BAR_IN: Final = 0.28
"""Inches that a bar takes."""

_STYLE: Final[Mapping[Any, Any]] = {
    "svg.hashsalt": "celery-agents",  # ids are made of it, or else at random
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
}


def can_plot() -> bool:
    """Whether matplotlib is there (the extra `bench`)."""
    return find_spec("matplotlib") is not None


def draw(plot: Plot, rows: Sequence[Row], path: Path) -> bool:
    """Write the plot as SVG; False, and nothing is written, if no row has what it shows."""
    import matplotlib as mpl

    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE, "backend": "svg"}):
        match plot:
            case Bars():
                figure = _bars(plot, [row for row in rows if plot.figure in row.figures])
            case Lines():
                figure = _lines(plot, [row for row in rows if _is_numeric(row, plot.x)])
            case _:
                assert_never(plot)
        if figure is not None:
            figure.savefig(path, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return figure is not None


def labels(rows: Sequence[Row], without: Iterable[str] = ()) -> list[str]:
    """One for each row: its subject, and the conditions in which it differs from others of it."""
    return [_label(row, rows, set(without)) for row in rows]


def _label(row: Row, rows: Sequence[Row], without: set[str]) -> str:
    same = [each for each in rows if each.subject == row.subject]
    telling = [
        name for name in row.conditions if name not in without and len(_values(name, same)) > 1
    ]
    return ", ".join([row.subject, *(_said(name, row.conditions[name]) for name in telling)])


def _values(condition: str, rows: Iterable[Row]) -> set[Condition | None]:
    return {row.conditions.get(condition) for row in rows}


def _said(name: str, value: Condition) -> str:
    return value if isinstance(value, str) else f"{heading(name)} {number(value)}"


# --- Bars -----------------------------------------------------------------------------------------


def _bars(plot: Bars, rows: Sequence[Row]) -> "Figure | None":
    if not rows:
        return None
    from matplotlib.figure import Figure

    groups = _groups(rows, plot.group_by)
    colours = _colours(row.subject for row in rows)
    sizes = [len(group) for group in groups]
    height = BAR_IN * sum(sizes) + 0.5 * len(sizes) + 0.6
    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    figure.suptitle(f"{plot.title} ({plot.unit})", x=0, ha="left", weight="bold")
    axes = figure.subplots(len(groups), sharex=True, squeeze=False, height_ratios=sizes)[:, 0]
    for each, group in zip(axes, groups, strict=True):
        _draw_group(each, plot, group, colours)
        if plot.group_by:
            each.set_title(_group_title(plot.group_by, group, rows))
    return figure


def _draw_group(axes: "Axes", plot: Bars, group: Sequence[Row], colours: Mapping[str, str]) -> None:
    values = [row.figures[plot.figure] for row in group]
    places = range(len(group))
    bars = axes.barh(places, values, color=[colours[row.subject] for row in group], height=0.75)
    axes.bar_label(bars, labels=[number(value) for value in values], padding=3)
    axes.set_yticks(places, labels(group, [plot.group_by]))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    if plot.is_log:
        axes.set_xscale("log")


def _group_title(condition: str, group: Sequence[Row], rows: Sequence[Row]) -> str:
    """The condition, and what else the whole group has in common while others differ."""
    shared = group[0].conditions
    telling = [
        name
        for name in shared
        if name != condition and len(_values(name, group)) == 1 < len(_values(name, rows))
    ]
    return ", ".join(_said(name, shared[name]) for name in [condition, *telling])


def _groups(rows: Sequence[Row], condition: str) -> list[list[Row]]:
    """Rows by the value of a condition, those without it left out; all of them for none."""
    if not condition:
        return [list(rows)]
    groups: dict[Condition, list[Row]] = {}
    for row in rows:
        if condition in row.conditions:
            groups.setdefault(row.conditions[condition], []).append(row)
    return list(groups.values())


def _colours(subjects: Iterable[str]) -> dict[str, str]:
    others = dict.fromkeys(name for name in subjects if name not in OWN)
    return {**OWN, **dict(zip(others, cycle(COLOURS), strict=False))}


# --- Lines ----------------------------------------------------------------------------------------


def _lines(plot: Lines, rows: Sequence[Row]) -> "Figure | None":
    lines = list(_line_points(plot, rows))
    if not lines:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(WIDTH_IN, 3.6), layout="constrained")
    axes = figure.subplots()
    colours = _colours(label for label, _ in lines)
    for label, points in lines:
        axes.plot(*zip(*points, strict=True), marker="o", label=label, color=colours[label])
    axes.set_title(f"{plot.title} ({plot.unit})", weight="bold")
    axes.set_xscale("log")
    axes.set_xticks(sorted({x for _, points in lines for x, _ in points}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(float(value))))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(heading(plot.x))
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _line_points(
    plot: Lines, rows: Sequence[Row]
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Lines by their labels, each with its points in order."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for figure in plot.figures:
        having = [row for row in rows if figure in row.figures]
        for row, subject in zip(having, labels(having, [plot.x]), strict=True):
            label = subject if len(plot.figures) == 1 else f"{subject}, {heading(figure)}"
            lines.setdefault(label, []).append((_x(row, plot.x), row.figures[figure]))
    for label, points in lines.items():
        yield label, sorted(points)


def _is_numeric(row: Row, condition: str) -> bool:
    return isinstance(row.conditions.get(condition), int | float)


def _x(row: Row, condition: str) -> float:
    return float(row.conditions[condition])
