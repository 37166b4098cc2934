"""Agents' cards: what workers tell of their agents, wherever it is kept."""

import base64

import pytest

from shared.backend import Backend
from shared.card.value import AgentCard, PromptCard, ToolCard, provider_of
from shared.errors import CorruptEntryError, InvalidIdError, SealKeyError
from shared.redis_keys import Keys
from tests.contract.harness import Harness, RedisHarness
from tests.contract.snapshot import snapshot

CARD = AgentCard(
    agent="clerk",
    provider="openai",
    model="openai:gpt-5.2",
    description="Helps.",
    prompts=(PromptCard(text="Be brief."), PromptCard(is_dynamic=True, name="today")),
    tools=(ToolCard(name="look_up", description="Finds.", parameters={"type": "object"}),),
)


async def test_a_card_is_found_by_its_agent(backend: Backend, elsewhere: Backend) -> None:
    """By every process; the last one that was written counts."""
    assert await backend.cards.find("clerk") is None
    await backend.cards.put(CARD)
    assert await elsewhere.cards.find("clerk") == CARD
    later = CARD.model_copy(update={"model": "openai:gpt-6"})
    await elsewhere.cards.put(later)
    assert await backend.cards.find("clerk") == later
    assert await backend.cards.find("other") is None


async def test_a_card_outlives_its_workers_for_a_month(backend: Backend, harness: Harness) -> None:
    """And not for ever: agents come and go."""
    await backend.cards.put(CARD)
    if isinstance(harness, RedisHarness):
        async with harness._connect() as client:
            left_s = await client.ttl(Keys(harness.key_prefix).card("clerk"))
        assert 29 * 86400 < left_s <= 30 * 86400


async def test_a_damaged_card_is_named(backend: Backend, harness: Harness) -> None:
    """And what is no agent's name is refused."""
    if isinstance(harness, RedisHarness):
        async with harness._connect() as client:
            await client.set(Keys(harness.key_prefix).card("clerk"), b"\xff{")
        with pytest.raises(CorruptEntryError):
            await backend.cards.find("clerk")
        with pytest.raises(InvalidIdError):
            await backend.cards.find("../x")


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("openai:gpt-5.2", "openai"),
        ("openai-responses:gpt-5.2", "openai"),
        ("gateway/openai-chat:gpt-5.2", "openai"),
        ("google-vertex:gemini", "google"),
        ("anthropic:claude", "anthropic"),
        ("test", None),
        (None, None),
    ],
)
def test_a_provider_is_known_by_the_model(model: str | None, provider: str | None) -> None:
    """Its interfaces count as one: a history of one can go on with another."""
    assert provider_of(model) == provider


async def test_with_keys_neither_cards_nor_snapshots_can_be_read_in_redis(
    harness: Harness,
) -> None:
    """As the settings say; who has the keys reads them, who has none is told."""
    if not isinstance(harness, RedisHarness):
        return
    key = base64.b64encode(bytes(range(32))).decode()
    backend = harness.open(encryption_keys=f"test:{key}")
    saved = snapshot("web:ada", "clerk", "a secret text")
    await backend.cards.put(CARD)
    await backend.snapshots.save(saved)
    async with harness._connect() as client:
        pattern = f"*{harness.key_prefix}*"
        names = [name async for name in client.scan_iter(match=pattern, count=1000)]
        stored = b"".join([await client.dump(name) for name in names])
    for word in (b"secret", b"brief", b"look_up", b"gpt"):
        assert word not in stored
    assert await backend.cards.find("clerk") == CARD
    assert await backend.snapshots.load(saved.info.id) == saved
    blind = harness.open()
    for call in (blind.cards.find("clerk"), blind.snapshots.load(saved.info.id)):
        with pytest.raises(SealKeyError):
            await call
