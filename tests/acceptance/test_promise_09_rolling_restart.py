"""Promise 9: every worker is restarted, one after the other, under live runs."""

import pytest
from rich.console import Console

from benchmarks.rolling_restart import LEAVE_S, Load, measure
from shared.embedded_redis import find_redis_server
from tests.services import missing

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

LOAD = Load(
    rounds=3,
    model_s=(0.2, 0.6),
    tool_s=(0.1, 0.8),
    long_tool_s=2.5,
    long_tools=0.2,
    grace_s=1.0,
)


def test_a_rolling_restart_loses_nothing_and_repeats_no_tool_that_ended() -> None:
    """Counted in what tools wrote; `benchmarks.rolling_restart` is the same for longer."""
    if find_redis_server() is None:
        missing("No redis-server or valkey-server on the PATH and no celery-agents[embedded].")
    report = measure(runs=12, workers=2, rounds=1, load=LOAD, console=Console(quiet=True))
    assert (report.lost, report.tools_repeated, report.crashes) == ([], [], 0)
    assert set(report.exit_codes) == {0}
    assert max(report.left_after_s) <= report.grace_s + 2 * LEAVE_S, "the bound, twice as wide"
    assert report.handed_over > 0
    assert report.tools_cut_off > 0, "no tool was at work for longer than its grace"
