"""Tables of the benchmark suite: headings, numbers, columns."""

import pytest

from benchmarks.suite.measured import Row
from benchmarks.suite.table import heading, markdown, number
from tests.unit.benchmarks.rows import ROWS


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wall_s", "wall, s"),
        ("rounds_per_s", "rounds/s"),
        ("driver_cpu_ms_per_round", "driver CPU, ms/round"),
        ("kib_per_run", "KiB/run"),
        ("ratio_to_bare", "ratio to bare"),
        ("runs", "runs"),
    ],
)
def test_a_name_with_units_is_a_heading(name: str, said: str) -> None:
    assert heading(name) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (400, "400"),
        (12_000, "12,000"),
        (1234.5, "1,234"),
        (999.5, "1,000"),
        (94.06, "94.1"),
        (1.234, "1.23"),
        (0.05, "0.05"),
        (0.012345, "0.0123"),
        (2.0, "2"),
        (0.0, "0"),
        (-1.5, "-1.50"),
        ("yes", "yes"),
    ],
)
def test_numbers_have_three_digits(value: float | str, said: str) -> None:
    assert number(value) == said


def test_columns_stand_as_rows_name_them_and_gaps_are_empty() -> None:
    assert markdown(ROWS[:2]).splitlines() == [
        "|  | engine | runs | workers | rounds/s | wall, s |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        "| bare loop | plain | 100 |  | 1,000 | 0.5 |",
        "| celery-agents | plain | 100 | 1 | 940 |  |",
    ]


def test_notes_have_a_column_where_there_are_any_and_bars_do_not_break_it() -> None:
    table = markdown([Row("a", {}, {"wall_s": 1.0}, note="threads | prefork"), Row("b", {}, {})])
    assert table.splitlines() == [
        "|  | wall, s | note |",
        "| --- | ---: | --- |",
        "| a | 1 | threads \\| prefork |",
        "| b |  |  |",
    ]
