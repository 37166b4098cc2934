"""Quantiles by nearest rank: each is one of the values that were measured."""

import math
from collections.abc import Iterable, Mapping


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed.

    Raises:
        ValueError: There are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("There is nothing to take a quantile of.")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def latency_ms(seconds: Iterable[float]) -> Mapping[str, float]:
    """What is told of latencies, which are given in seconds."""
    ordered = sorted(seconds)
    return {"p50_ms": 1000 * quantile(ordered, 0.5), "p99_ms": 1000 * quantile(ordered, 0.99)}
