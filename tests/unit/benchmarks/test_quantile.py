"""Quantiles: always one of the values that were measured."""

import pytest

from benchmarks.quantile import latency_ms, quantile


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.99, 10), (1.0, 10)]
)
def test_a_quantile_is_the_first_value_with_enough_of_them_up_to_it(
    share: float, expected: float
) -> None:
    """Whatever their order."""
    assert quantile([7, 3, 10, 1, 9, 2, 8, 4, 6, 5], share) == expected


def test_the_99th_of_a_hundred_leaves_one_out() -> None:
    """It is no maximum: one that is slow is allowed."""
    assert quantile([*range(99), 1000], 0.99) == 98


def test_one_value_is_each_of_its_quantiles() -> None:
    """Small samples have no gaps."""
    assert [quantile([4.2], share) for share in (0, 0.5, 0.99, 1)] == [4.2] * 4


def test_nothing_has_no_quantile() -> None:
    """Zero would be a figure."""
    with pytest.raises(ValueError, match="nothing"):
        quantile([], 0.5)


def test_latencies_are_told_in_milliseconds() -> None:
    """They are taken in seconds."""
    assert latency_ms([0.25] * 98 + [0.5, 2.0]) == {"p50_ms": 250, "p99_ms": 500}
