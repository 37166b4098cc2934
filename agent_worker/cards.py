"""The cards of a worker's agents, written beside its heartbeat and not with it: they are large."""

from collections.abc import Iterable
from typing import Final

import structlog

from agent_worker.definition import AgentDefinition
from agent_worker.engine.description import card_of
from shared.card.protocol import AgentCards
from shared.card.value import AgentCard

CARDS_S: Final = 600.0
"""How often they are written again: the store may lose them, and forgets them after a while."""

log = structlog.get_logger()


class Cards:
    """Tells others what the agents of this worker are."""

    def __init__(self, cards: AgentCards, agents: Iterable[AgentDefinition]) -> None:
        self._cards = cards
        self._agents = tuple(agents)
        self._known: tuple[AgentCard, ...] | None = None

    async def put(self) -> None:
        """Write the card of each agent.

        Raises:
            StoreUnavailableError: No answer; repeating it is safe.
        """
        if self._known is None:
            self._known = tuple(filter(None, map(_card, self._agents)))
        for card in self._known:
            await self._cards.put(card)


def _card(definition: AgentDefinition) -> AgentCard | None:
    try:
        return card_of(definition.name, definition.engine)
    except Exception as error:  # noqa: BLE001 - code of an agent; it is served with or without a card
        log.warning("card.failed", agent=definition.name, error=type(error).__name__)
        return None
