"""The contract over the store: this file is what an author has to write.

pytest -p shared.testing.plugin examples/custom_store/test_store.py
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from examples.custom_store.record import Record
from examples.custom_store.store import DbmConversationStore
from shared.testing.conversation import ConversationContract
from shared.testing.plugin import Damage


class TestDbmConversationStore(ConversationContract):
    """All of it."""

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[DbmConversationStore]:
        """A store over a new file."""
        store = DbmConversationStore(tmp_path / "chat")
        yield store
        await store.aclose()

    @pytest.fixture
    def damage(self, store: DbmConversationStore) -> Damage:
        """Repeat the last entry with what is no message."""

        async def damage(conversation_id: str) -> None:
            def spoil(record: Record) -> None:
                last = record.entries[-1]
                record.last_number += 1
                record.entries.append(
                    last.model_copy(update={"number": record.last_number, "stored": "{"})
                )

            await store._change(conversation_id, spoil)  # noqa: SLF001 - behind the store's back

        return damage
