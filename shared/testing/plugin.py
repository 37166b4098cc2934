"""A pytest plugin: what the contract suites need besides the store under test.

Enable it with ``-p shared.testing.plugin`` or ``pytest_plugins = ["shared.testing.plugin"]``.
"""

from collections.abc import Awaitable, Callable

import pytest

from shared.conversation.protocol import ConversationStore

Damage = Callable[[str], Awaitable[None]]
"""Puts an entry behind the last one of a conversation that no reader understands."""

pytest.register_assert_rewrite("shared.testing.conversation")


@pytest.fixture
def elsewhere(store: ConversationStore) -> ConversationStore:
    """The conversations of `store` as another process sees them; override it where one can."""
    return store


@pytest.fixture
def damage() -> Damage:
    """How an entry of `store` is damaged; override it, or the tests of damage are skipped."""
    pytest.skip("no fixture `damage` says how an entry of this store is damaged")
