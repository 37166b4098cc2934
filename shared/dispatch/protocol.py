"""Ringing a worker.

A ring carries a run id and nothing else; all that is true stands in the ledger.
"""

from collections.abc import Sequence
from typing import Protocol

from shared.ledger.protocol import WakeUp


class Dispatcher(Protocol):
    """Wakes workers.

    A ring may be lost, doubled or late: leasing a run is what decides, and a sweep finds runs for
    which no ring arrived. So a ring costs time at most, and never correctness.
    """

    @property
    def is_distributed(self) -> bool:
        """Whether workers in other processes are rung."""
        ...

    async def ring(self, wake_ups: Sequence[WakeUp]) -> None:
        """Ring once for each run.

        Raises:
            BrokerUnavailableError: The broker did not take it within `broker_timeout_s`.
        """
        ...

    async def aclose(self) -> None:
        """Give connections back."""
        ...
