"""Conversations that Redis shortens and forgets."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from shared.conversation.protocol import ConversationStore, Writer
from shared.errors import PositionGapError
from shared.message import (
    Draft,
    Message,
    MessageKind,
    Role,
    ToolCall,
    tool_result_draft,
    user_draft,
)
from shared.redis_keys import Keys
from shared.settings import Settings
from shared.testing.conversation.value import conversation_name, imported, messages, run_name, texts
from shared.testing.waiting import eventually
from shared.window import pair_safe
from tests.contract.harness import RedisHarness
from tests.services import RedisServer

pytestmark = pytest.mark.integration


@pytest.fixture
async def harness(redis_server: RedisServer) -> AsyncIterator[RedisHarness]:
    harness = RedisHarness(redis_server.url, f"test-{uuid4().hex}")
    yield harness
    await harness.aclose()


def short(harness: RedisHarness, most: int) -> ConversationStore:
    """A store that keeps so many messages of a conversation."""
    return harness.open(conversation_max_messages=most, history_size=1).conversations


def rounds(run_id: str, count: int, *, calls: int = 2) -> list[Message]:
    """A question, so many rounds with parallel calls, and an answer."""
    drafts: list[Draft] = [user_draft("question")]
    for number in range(count):
        asked = tuple(ToolCall(id=f"{number}.{n}", name="t", arguments="{}") for n in range(calls))
        drafts.append(Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=asked))
        drafts += [tool_result_draft(call, "result") for call in asked]
    drafts.append(Draft(role=Role.ASSISTANT, content="answer"))
    return [
        Message.from_draft(draft, run_id=run_id, position=position)
        for position, draft in enumerate(drafts)
    ]


async def test_the_oldest_messages_are_removed(harness: RedisHarness) -> None:
    """So many as are too many, with each append; cursors of those that stay keep their meaning."""
    store, name = short(harness, 5), conversation_name()
    for number in range(12):
        await store.append(name, [imported(str(number))])
    stored = await store.list_messages(name)
    assert texts(stored) == ["7", "8", "9", "10", "11"]
    assert await store.count(name) == 5
    assert texts(await store.list_messages(name, after=stored[1].cursor)) == ["9", "10", "11"]


@pytest.mark.parametrize("most", range(1, 14))
async def test_a_call_keeps_its_results(harness: RedisHarness, most: int) -> None:
    """Wherever the cut would fall, what is left is well formed, and no longer than asked for."""
    store, name = short(harness, most), conversation_name()
    earlier = run_name()
    await store.append(name, rounds(earlier, 3), writer=Writer(earlier, 1))
    later = run_name()
    await store.append(name, messages(later, [0]), writer=Writer(later, 2))
    left = await store.list_messages(name)
    assert pair_safe(left) == left
    assert 1 <= len(left) <= most
    assert left[-1].run_id == later
    expected = [*rounds(earlier, 3), *messages(later, [0])]
    assert [each.id for each in left] == [each.id for each in expected[-len(left) :]]
    removed = expected[: -len(left)]
    assert len(removed) <= len(expected) - most + 2, "more was removed than the calls ask for"


async def test_a_run_that_writes_keeps_all_of_its_messages(harness: RedisHarness) -> None:
    """However long it is: who takes it over finds everything that it did."""
    store, name, run_id = short(harness, 4), conversation_name(), run_name()
    await store.append(name, [imported("a"), imported("b")])
    own = rounds(run_id, 5)
    for message in own:
        await store.append(name, [message], writer=Writer(run_id, 1))
    claim = await store.claim(name, Writer(run_id, 2), limit=10)
    assert [each.id for each in claim.own] == [each.id for each in own]
    assert claim.earlier == ()
    with pytest.raises(PositionGapError):
        await store.append(name, messages(run_id, [len(own) + 1]), writer=Writer(run_id, 2))


async def test_runs_that_were_cut_are_listed_as_far_as_they_are_there(
    harness: RedisHarness,
) -> None:
    """A run whose first messages are gone has the others; one that is gone has none."""
    store, name = short(harness, 4), conversation_name()
    runs = [run_name() for _ in range(3)]
    for token, run_id in enumerate(runs, start=1):
        await store.append(name, messages(run_id, range(3)), writer=Writer(run_id, token))
    by_run = [await store.list_messages(name, run_id=run_id) for run_id in runs]
    assert [[each.position for each in found] for found in by_run] == [[], [2], [0, 1, 2]]


async def test_a_conversation_is_forgotten_when_nothing_is_appended(
    harness: RedisHarness, redis_server: RedisServer
) -> None:
    """Each append puts it off; then nothing is left of it, and it may begin anew."""
    store = harness.open(conversation_ttl_s=0.6, time_limit_s=0.5).conversations
    name, run_id = conversation_name(), run_name()
    keys = Keys(harness.key_prefix)
    async with Redis.from_url(redis_server.url, decode_responses=True) as redis:

        async def left_ms() -> list[int]:
            return [int(await redis.pttl(key)) for key in (keys.history(name), keys.messages(name))]

        await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 7))
        first = await left_ms()
        assert all(0 < each <= 600 for each in first)

        async def is_lower() -> bool:
            return max(await left_ms()) < 400

        await eventually(is_lower)
        await store.append(name, messages(run_id, [1]), writer=Writer(run_id, 7))
        assert all(each > 400 for each in await left_ms())

        async def is_forgotten() -> bool:
            return await store.list_messages(name) == []

        await eventually(is_forgotten)
        assert [each async for each in store.conversation_ids()] == []
        assert await redis.exists(keys.history(name)) == 0
    await store.append(name, messages(run_id, [0]), writer=Writer(run_id, 1))
    assert await store.count(name) == 1


def test_settings_that_would_cost_a_run_its_history_are_refused() -> None:
    """Forgetting sooner than a run may take, or keeping less than a model sees."""
    with pytest.raises(ValueError, match="AGENTS_CONVERSATION_TTL_S"):
        Settings(conversation_ttl_s=60)
    with pytest.raises(ValueError, match="AGENTS_CONVERSATION_MAX_MESSAGES"):
        Settings(conversation_max_messages=19)
