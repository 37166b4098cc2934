"""When a worker process that has ended gets a successor. Knows no process and no clock."""

import signal
from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Each pause is twice the one before, up to this."""
SETTLED_S: Final = 60.0
"""Who lived so long did not die of being started: what was counted before is forgotten."""
MAX_REFUSALS: Final = 5
"""So often in a row may a set-up be refused that was right before. It may be in the middle of a
change, and what is refused at the fifth time, two minutes later, will not be right at the sixth."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended.

    Attributes:
        pid: None where it could not even be started.
        code: The exit code, as `subprocess` has it: negative for a signal.
        lived_s: From its start to its end.
    """

    pid: int | None
    code: int
    lived_s: float

    @property
    def facts(self) -> dict[str, object]:
        """For the log."""
        how = {"signal": _signal_name(-self.code)} if self.code < 0 else {"exit_code": self.code}
        return {"pid": self.pid, **how, "lived_s": round(self.lived_s, 1)}


class Restarts:
    """The successors in one place. A process with `refusal_code` found that its set-up is wrong."""

    def __init__(self, refusal_code: int) -> None:
        self._refusal_code = refusal_code
        self._next_pause_s = FIRST_PAUSE_S
        self._refusals = 0

    def pause_s(self, ending: Ending, *, has_worked: bool) -> float | None:
        """How long to wait before the next start; None: there shall be no other. Call once each.

        `has_worked`: whether any process of this set-up ever came up.
        """
        if ending.lived_s >= SETTLED_S:
            self._next_pause_s, self._refusals = FIRST_PAUSE_S, 0
        if ending.code == self._refusal_code:
            self._refusals += 1
            return LONGEST_PAUSE_S if has_worked and self._refusals < MAX_REFUSALS else None
        self._refusals = 0
        pause_s = self._next_pause_s
        self._next_pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return pause_s


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
