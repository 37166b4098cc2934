"""The conversation contract, over every implementation."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from shared.conversation.protocol import ConversationStore
from shared.testing.conversation import (
    ConversationReadingContract,
    ConversationRemovalContract,
    ConversationWritingContract,
)
from shared.testing.plugin import Damage
from tests.contract.stores import STORES
from tests.contract.stores.harness import StoreHarness


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.integration] if kind.is_service else [])
        for name, kind in STORES.items()
    ]
)
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[StoreHarness]:
    harness = STORES[request.param].open(request)
    yield harness
    await harness.aclose()


@pytest.fixture
async def store(stores: StoreHarness) -> ConversationStore:
    return await stores.open()


@pytest.fixture
async def elsewhere(stores: StoreHarness, store: ConversationStore) -> ConversationStore:
    return await stores.open_elsewhere(store)


@pytest.fixture
def damage(stores: StoreHarness, store: ConversationStore) -> Damage:
    return partial(stores.damage, store)


class TestWriting(ConversationWritingContract):
    """See `ConversationWritingContract`."""


class TestRemoval(ConversationRemovalContract):
    """See `ConversationRemovalContract`."""


class TestReading(ConversationReadingContract):
    """See `ConversationReadingContract`."""
