"""The runs of one conversation that have not ended: one is active, the others wait."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class WaitingLine:
    """Which run of a conversation is active, and who comes next.

    Attributes:
        active: The run that is ready or running; None while the conversation is free.
    """

    active: str | None = None
    _interrupting: deque[str] = field(default_factory=deque)
    _waiting: deque[str] = field(default_factory=deque)

    @property
    def interrupters(self) -> tuple[str, ...]:
        """Those that wait for the active run to be stopped, in front of all others."""
        return tuple(self._interrupting)

    def join(self, run_id: str, *, interrupts: bool) -> None:
        """Stand in line: active at once where nobody is, else behind all of the same kind."""
        if self.active is None:
            self.active = run_id
        else:
            (self._interrupting if interrupts else self._waiting).append(run_id)

    def leave(self, run_id: str) -> str | None:
        """Step out of the line. Returns the run that became active through this, if one did."""
        if self.active != run_id:
            for line in (self._interrupting, self._waiting):
                if run_id in line:
                    line.remove(run_id)
            return None
        line = self._interrupting or self._waiting
        self.active = line.popleft() if line else None
        return self.active
