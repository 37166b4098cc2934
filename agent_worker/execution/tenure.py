"""The tenure: whether a worker that stood still for a while still holds its run.

Writes of a worker that lost its run are refused. What it starts is not: a worker that was frozen
while it waited for the answer to a write is told that the write went well, and would execute tools
that another worker has long since executed. So what a run starts is started only a short time after
something that proves the lease was asked for, or after asking for such a proof.
"""

import time
from collections.abc import Awaitable, Callable


class Tenure:
    """When the lease of a run was last proved, and how to prove it anew.

    `check` raises when the run is held no longer. `trusted_s` is for how long a proof holds, from
    when it was asked for: no longer than a heartbeat, which is a fraction of a lease.
    """

    def __init__(self, check: Callable[[], Awaitable[None]], *, trusted_s: float) -> None:
        self._check = check
        self._trusted_s = trusted_s
        self._asked_at = float("-inf")

    def renew(self, asked_at: float) -> None:
        """A write under the run's fencing token went well; it was asked for at this time."""
        self._asked_at = asked_at

    async def confirm(self) -> None:
        """Return once there is a proof that is fresh enough; mostly at once.

        Raises:
            FencedError: The run is held no longer.
            UnknownRunError: It is gone.
            StoreUnavailableError: Nobody answered for too long.
        """
        while time.monotonic() - self._asked_at > self._trusted_s:
            asked_at = time.monotonic()
            await self._check()
            self.renew(asked_at)
