"""An agent's card, as its engine writes it."""

from typing import Protocol, runtime_checkable

from agent_worker.engine.protocol import Engine
from shared.card.value import AgentCard, ToolCard, provider_of


@runtime_checkable
class Describing(Protocol):
    """An engine that can tell more of its agent than `Engine.info`. Optional."""

    def describe(self) -> AgentCard:
        """The agent's prompts and tools, without starting anything.

        `AgentCard.agent` is filled in by the worker.
        """
        ...


def card_of(name: str, engine: Engine) -> AgentCard:
    """The card of the agent that an engine runs; one from `info` where it cannot say more."""
    if isinstance(engine, Describing):
        return engine.describe().model_copy(update={"agent": name})
    info = engine.info
    return AgentCard(
        agent=name,
        provider=provider_of(info.model),
        model=info.model,
        description=info.description,
        tools=tuple(ToolCard(name=tool) for tool in info.tools),
        has_other_tools=True,
    )
