"""The garbage collector of a worker process."""

import gc
from collections.abc import Iterator

import pytest

from agent_worker.collector import COLLECT_EVERY, tune_collector


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """As it was, when the test is over."""
    before, was_on = gc.get_threshold(), gc.isenabled()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
    (gc.enable if was_on else gc.disable)()


def test_what_is_there_is_left_alone() -> None:
    """Modules live as long as the process: looking through them finds nothing."""
    gc.set_threshold(700, 10, 10)
    before = len(gc.get_objects())
    tune_collector()
    assert gc.get_freeze_count() > before / 2
    assert gc.get_threshold() == (COLLECT_EVERY, 10, 10)


@pytest.mark.parametrize("every", [0, COLLECT_EVERY * 2])
def test_what_was_set_before_is_heeded(every: int) -> None:
    """Zero is how a collector is told to stay away."""
    gc.set_threshold(every, 7, 7)
    tune_collector()
    assert gc.get_threshold() == (every, 7, 7)


def test_a_collector_that_is_off_stays_off() -> None:
    """Somebody collects by hand."""
    gc.disable()
    tune_collector()
    assert not gc.isenabled()
