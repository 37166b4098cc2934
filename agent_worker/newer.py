"""Runs for newer workers: told in the log of those that are too old; nobody else may be there."""

import time
from collections.abc import Collection
from typing import Final

import structlog

from shared.ledger.protocol import RunLedger
from shared.version import FORMAT_VERSION

NEWER_S: Final = 2.0
"""How often a worker looks."""
REMIND_S: Final = 60.0
"""Between two entries about runs that wait still."""

log = structlog.get_logger()


class NewerRuns:
    """Warns of runs of this worker's agents that it is too old for."""

    def __init__(self, ledger: RunLedger, agents: Collection[str]) -> None:
        self._ledger = ledger
        self._agents = agents
        self._told: frozenset[str] = frozenset()
        self._told_at = 0.0

    async def look(self) -> None:
        """Look once; say what is new, and once in a while what is not."""
        found = await self._ledger.find_newer(agents=self._agents)
        is_time = time.monotonic() - self._told_at > REMIND_S
        if found and (is_time or found.keys() - self._told):
            self._told_at = time.monotonic()
            log.warning(
                "run.needs_newer_worker",
                for_runs=sorted(found),
                needs_version=max(found.values()),
                worker_version=FORMAT_VERSION,
                advice="update workers before whoever submits",
            )
        self._told = frozenset(found)
