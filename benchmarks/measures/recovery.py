"""How long runs stand still when their worker is killed, and when it is told to stop."""

from typing import Final

from benchmarks.recovery import PROMISED_S, WORKERS, Figures
from benchmarks.recovery import measure as measure_signals
from benchmarks.suite.measured import Bars, Measured, Row
from benchmarks.suite.stage import Stage

NAME: Final = "recovery"
TITLE: Final = "Runs whose worker goes"

_SAID: Final = {"SIGKILL": "kill -9", "SIGTERM": "SIGTERM"}
_EXPLANATION: Final = f"""
Two workers at default settings. Again and again the one with more runs gets a signal; time counts
until the agent of each of its runs is at work in the other one. A killed worker is missed after
its lease, which is 4 s; the promise is {PROMISED_S:g} s. One that is told to stop hands its runs
over; the last column is when its process had ended.
"""


def measure(stage: Stage) -> Measured:
    """A few kills, then a few stops."""
    times, runs = stage.choose((5, 20), quick=(1, 3))
    figures = measure_signals(times, times, runs, stage.progress)
    return Measured(
        tuple(map(_row, figures)),
        plots=(Bars("Until runs go on elsewhere, 95 of 100", "p95_s", "s"),),
        explanation=_EXPLANATION.strip(),
    )


def _row(figures: Figures) -> Row:
    return Row(
        _SAID[figures.signal],
        {"signals": figures.signals, "runs": figures.runs, "workers": WORKERS},
        {
            "p50_s": figures.p50_s,
            "p95_s": figures.p95_s,
            "longest_s": figures.max_s,
            "process_ended_s": figures.exit_max_s,
        },
    )
