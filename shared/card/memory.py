"""Cards in the memory of this process: for local mode and fast tests."""

from shared.card.value import AgentCard


class MemoryAgentCards:
    """See `AgentCards`. Kept as long as this object."""

    def __init__(self) -> None:
        self._cards: dict[str, AgentCard] = {}

    async def put(self, card: AgentCard) -> None:
        self._cards[card.agent] = card

    async def find(self, agent: str) -> AgentCard | None:
        return self._cards.get(agent)
