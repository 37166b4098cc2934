"""When a process that has ended gets a successor."""

import signal

import pytest

from agent_worker.supervision.restarts import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MAX_REFUSALS,
    SETTLED_S,
    Ending,
    Restarts,
)

REFUSED = 2
KILLED = -signal.SIGKILL


def died(code: int = KILLED, lived_s: float = 1.0) -> Ending:
    return Ending(pid=1, code=code, lived_s=lived_s)


def pauses(count: int, restarts: Restarts) -> list[float | None]:
    return [restarts.pause_s(died(), has_worked=True) for _ in range(count)]


def test_pauses_grow_to_a_limit() -> None:
    """What dies of being started must not keep a processor busy; nor may it be forgotten."""
    assert pauses(8, Restarts(REFUSED)) == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert pauses(5000, Restarts(REFUSED))[-1] == LONGEST_PAUSE_S


def test_who_lived_for_a_while_comes_back_soon() -> None:
    """Five deaths in a month are no sixth failure to start."""
    restarts = Restarts(REFUSED)
    pauses(5, restarts)
    assert restarts.pause_s(died(lived_s=SETTLED_S), has_worked=True) == FIRST_PAUSE_S
    assert restarts.pause_s(died(lived_s=SETTLED_S - 1), has_worked=True) == 2 * FIRST_PAUSE_S


@pytest.mark.parametrize("code", [0, 1, -signal.SIGTERM, KILLED])
def test_whatever_ended_a_process_it_gets_a_successor(code: int) -> None:
    """Also one that somebody told to leave: only the supervisor leaves an empty place."""
    restarts = Restarts(REFUSED)
    assert restarts.pause_s(died(code), has_worked=False) == FIRST_PAUSE_S


def test_a_set_up_that_never_worked_is_not_tried_again() -> None:
    """A module that is not there will not be there in a second."""
    assert Restarts(REFUSED).pause_s(died(REFUSED), has_worked=False) is None


def test_a_set_up_that_worked_before_is_tried_a_few_times() -> None:
    """It may be in the middle of a deploy, or of a change of passwords; but not for ever."""
    restarts = Restarts(REFUSED)
    tries = [restarts.pause_s(died(REFUSED), has_worked=True) for _ in range(MAX_REFUSALS)]
    assert tries == [LONGEST_PAUSE_S] * (MAX_REFUSALS - 1) + [None]


@pytest.mark.parametrize("between", [died(), died(REFUSED, lived_s=SETTLED_S)])
def test_refusals_count_in_a_row_only(between: Ending) -> None:
    """A process that came up in between shows that the set-up is right again."""
    restarts = Restarts(REFUSED)
    for _ in range(MAX_REFUSALS - 1):
        restarts.pause_s(died(REFUSED), has_worked=True)
    restarts.pause_s(between, has_worked=True)
    assert restarts.pause_s(died(REFUSED), has_worked=True) == LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (1, {"exit_code": 1}),
        (KILLED, {"signal": "SIGKILL"}),
        (-int(signal.SIGRTMIN) - 1, {"signal": str(signal.SIGRTMIN + 1)}),
    ],
)
def test_an_ending_says_how_and_when(code: int, how: dict[str, object]) -> None:
    """For whoever reads the log: an exit code, or the signal by its name."""
    assert died(code, lived_s=1.23).facts == {"pid": 1, **how, "lived_s": 1.2}
