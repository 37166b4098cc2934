"""The cards of a worker's agents, written beside its heartbeat and not with it: they are large."""

import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from agent_worker.definition import AgentDefinition
from agent_worker.engine.description import card_of
from shared.card.protocol import AgentCards
from shared.card.value import AgentCard
from shared.errors import CorruptEntryError, SealError

LOOK_S: Final = 10.0
"""How often a worker looks whether they are still there: a store may lose what it had."""

REFRESH_S: Final = 600.0
"""How often they are written though they are there: the store forgets them after a while."""

log = structlog.get_logger()


class Cards:
    """Tells others what the agents of this worker are."""

    def __init__(
        self,
        cards: AgentCards,
        agents: Iterable[AgentDefinition],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cards = cards
        self._agents = tuple(agents)
        self._clock = clock
        self._known: tuple[AgentCard, ...] | None = None
        self._written: dict[str, float] = {}

    async def keep(self) -> None:
        """Write the card of each agent that is not there, or was written too long ago.

        Raises:
            StoreUnavailableError: No answer; repeating it is safe.
        """
        if self._known is None:
            self._known = tuple(filter(None, map(_card, self._agents)))
        for card in self._known:
            if not (self._is_fresh(card.agent) and await self._is_there(card.agent)):
                await self._cards.put(card)
                self._written[card.agent] = self._clock()

    def _is_fresh(self, agent: str) -> bool:
        written = self._written.get(agent)
        return written is not None and self._clock() - written < REFRESH_S

    async def _is_there(self, agent: str) -> bool:
        try:
            return await self._cards.find(agent) is not None
        except (
            CorruptEntryError,
            SealError,
        ):  # nobody can read it, so it might as well not be there
            return False


def _card(definition: AgentDefinition) -> AgentCard | None:
    try:
        return card_of(definition.name, definition.engine)
    except Exception as error:  # noqa: BLE001 - code of an agent; it is served with or without a card
        log.warning("card.failed", agent=definition.name, error=type(error).__name__)
        return None
