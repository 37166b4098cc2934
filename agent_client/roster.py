"""The roster: which agents live workers serve, remembered for a moment."""

import asyncio
import time
from difflib import get_close_matches
from typing import Final

import structlog

from shared.errors import NoWorkerError, UnknownAgentError
from shared.ledger.protocol import RunLedger
from shared.run import AgentInfo, WorkerInfo

log = structlog.get_logger()

FRESH_S: Final = 2.0
"""How long an answer is reused; a read for each of a thousand submits a second would be waste."""
WARN_EVERY_S: Final = 30.0
"""Between two warnings that no worker lives; each submit would otherwise log the same."""


class Roster:
    """Answers whether anybody serves an agent. Refusals are always founded on a fresh read."""

    def __init__(self, ledger: RunLedger) -> None:
        self._ledger = ledger
        self._served: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._warned_at = float("-inf")
        self._reading = asyncio.Lock()

    async def check(self, agent: str, *, require_worker: bool) -> None:
        """Return if a live worker serves `agent`, or if no worker lives and waiting is fine.

        Raises:
            UnknownAgentError: Workers live, and none of them serves it.
            NoWorkerError: No worker lives, and `require_worker` is set.
            StoreUnavailableError: The ledger did not answer.
        """
        served = await self._agents()
        if agent not in served and (served or require_worker):
            served = await self._agents(newer_than=time.monotonic())
        if agent in served:
            return
        if served:
            raise UnknownAgentError(_unknown(agent, served))
        if require_worker:
            raise NoWorkerError(
                "No worker is alive, so the run would wait. Start one (agent-worker), or submit "
                "without require_worker to let it wait."
            )
        self._warn_of_waiting(agent)

    async def _agents(self, newer_than: float = float("-inf")) -> frozenset[str]:
        async with self._reading:  # so that submits that come together share one read
            if self._read_at < max(newer_than, time.monotonic() - FRESH_S):
                started_at = time.monotonic()
                workers = await self._ledger.list_workers()
                self._served = frozenset(agent.name for agent in served_agents(workers))
                self._read_at = started_at
            return self._served

    def _warn_of_waiting(self, agent: str) -> None:
        now = time.monotonic()
        if now - self._warned_at < WARN_EVERY_S:
            return
        self._warned_at = now
        log.warning("worker.none_alive", agent=agent)


def served_agents(workers: list[WorkerInfo]) -> list[AgentInfo]:
    """Every agent that one of the workers announces, once, by name."""
    by_name = {agent.name: agent for worker in workers for agent in worker.agents}
    return [by_name[name] for name in sorted(by_name)]


def _unknown(agent: str, served: frozenset[str]) -> str:
    close = get_close_matches(agent, served, n=1)
    suggestion = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"No live worker serves the agent {agent!r}.{suggestion} Served now: "
        f"{', '.join(sorted(served))}. Start a worker that has it, or correct the name."
    )
