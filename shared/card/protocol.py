"""Where agents' cards are kept: the protocol, and what every implementation guarantees."""

from typing import Final, Protocol

from shared.card.value import AgentCard

KEPT_S: Final = 30 * 86400.0
"""How long a card outlives the last worker that served its agent."""


class AgentCards(Protocol):
    """One card for each agent: the one that was written last.

    Where workers of two releases serve one agent, as in a deploy, it is that of either.
    """

    async def put(self, card: AgentCard) -> None:
        """Keep a card in the place of the agent's former one, for `KEPT_S` from now.

        Raises:
            StoreUnavailableError: No answer; repeating it is safe.
        """
        ...

    async def find(self, agent: str) -> AgentCard | None:
        """The card of an agent; None where no worker has described it (or long ago).

        Raises:
            CorruptEntryError: What is there is no card.
            SealError: It cannot be opened.
            StoreUnavailableError: No answer.
        """
        ...
