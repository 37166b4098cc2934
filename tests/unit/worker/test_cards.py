"""A worker keeps the cards of its agents where others look for them."""

from typing import Final

import pytest

from agent_worker.cards import REFRESH_S, Cards
from agent_worker.definition import AgentDefinition
from agent_worker.engine.function import FunctionEngine
from agent_worker.engine.protocol import EngineRequest
from shared.card.memory import MemoryAgentCards
from shared.card.value import AgentCard
from shared.errors import CorruptEntryError, StoreUnavailableError

NAMES: Final = ("first", "second")


async def answer(request: EngineRequest) -> str:
    return "yes"


class Store(MemoryAgentCards):
    """Counts writes; loses and damages cards, and is away, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.damaged: set[str] = set()
        self.is_away = False

    async def put(self, card: AgentCard) -> None:
        if self.is_away:
            raise StoreUnavailableError("Away.")
        self.writes.append(card.agent)
        self.damaged.discard(card.agent)
        await super().put(card)

    async def find(self, agent: str) -> AgentCard | None:
        if agent in self.damaged:
            raise CorruptEntryError("No card.")
        return await super().find(agent)

    def lose(self, agent: str) -> None:
        del self._cards[agent]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cards(store: Store, clock: Clock) -> Cards:
    agents = [AgentDefinition(name, FunctionEngine(answer)) for name in NAMES]
    return Cards(store, agents, clock=clock)


async def test_cards_that_are_there_are_written_once(cards: Cards, store: Store) -> None:
    for _ in range(3):
        await cards.keep()
    assert store.writes == [*NAMES]


async def test_a_card_that_the_store_lost_is_written_again(cards: Cards, store: Store) -> None:
    """A store that came back empty would have none of them for ten minutes otherwise."""
    await cards.keep()
    store.lose("second")
    await cards.keep()
    assert store.writes == [*NAMES, "second"]
    assert await store.find("second") is not None


async def test_a_card_that_cannot_be_read_is_replaced(cards: Cards, store: Store) -> None:
    await cards.keep()
    store.damaged.add("first")
    await cards.keep()
    assert store.writes == [*NAMES, "first"]


async def test_cards_are_written_again_before_the_store_forgets_them(
    cards: Cards, store: Store, clock: Clock
) -> None:
    await cards.keep()
    clock.now += REFRESH_S
    await cards.keep()
    assert store.writes == [*NAMES, *NAMES]


async def test_a_card_that_was_not_taken_is_written_the_next_time(
    cards: Cards, store: Store
) -> None:
    store.is_away = True
    with pytest.raises(StoreUnavailableError):
        await cards.keep()
    store.is_away = False
    await cards.keep()
    assert store.writes == [*NAMES]
