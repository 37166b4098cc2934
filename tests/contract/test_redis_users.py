"""Users at Redis who lack a right, or a password."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import pytest

from shared.errors import ConfigurationError
from shared.testing.conversation.value import conversation_name, imported
from tests.contract.harness import RedisHarness
from tests.contract.values import new_run, worker
from tests.services import RedisServer
from tests.topologies.users import PASSWORD, User

pytestmark = pytest.mark.integration


@pytest.fixture
def key_prefix() -> str:
    return f"test-{uuid4().hex}"


@pytest.fixture
def user(redis_server: RedisServer, key_prefix: str) -> Iterator[User]:
    user = User(redis_server.url, key_prefix)
    yield user
    user.delete()


@pytest.fixture
async def harness(
    redis_server: RedisServer, key_prefix: str, user: User
) -> AsyncIterator[RedisHarness]:
    harness = RedisHarness(redis_server.url, key_prefix, always=user.settings)
    yield harness
    await harness.aclose()


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (("-hgetall",), "hgetall"),
        (("-evalsha", "-eval"), "eval"),
        (("-zadd",), "script on"),
        (("resetkeys", "~other:*"), "key"),
        (("resetchannels",), "script on"),
    ],
    ids=["a command", "scripts", "a command in a script", "keys", "channels in a script"],
)
async def test_a_right_that_is_missing_is_named(
    user: User, harness: RedisHarness, rules: tuple[str, ...], named: str
) -> None:
    """The error says what was not allowed and where the rights are listed, and no password."""
    backend, run = harness.open(), new_run()
    await backend.ledger.submit(run)
    user.allow(*rules)

    async def use() -> None:
        await backend.ledger.get(run.id)
        await backend.ledger.submit(new_run(conversation_name()))

    with pytest.raises(ConfigurationError, match=r"operations\.md") as caught:
        await use()
    assert named in str(caught.value).lower()
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("rules", [("-subscribe",), ("resetchannels", "&other:*")])
async def test_who_may_not_listen_is_told(
    user: User, harness: RedisHarness, rules: tuple[str, ...]
) -> None:
    """Not that Redis does not answer; and once it is allowed, everybody listens."""
    user.allow(*rules)
    backend = harness.open(redis_timeout_s=0.5)
    store, topic = backend.conversations, backend.conversations.topic("room")
    with pytest.raises(ConfigurationError, match=r"SUBSCRIBE.*operations\.md"):
        async with store.notifications.subscribe(topic):
            pass
    user.allow("+subscribe", "allchannels")
    patient = harness.open(redis_timeout_s=20).conversations
    async with patient.notifications.subscribe(topic) as hints:
        await patient.append("room", [imported("x")])
        assert await hints.wait(5)


@pytest.mark.parametrize("login", [{"redis_password": "wrong"}, {"redis_username": "nobody"}])
async def test_wrong_credentials_are_named_and_not_shown(
    harness: RedisHarness, login: dict[str, Any]
) -> None:
    """The error names the settings."""
    backend = harness.open(**login)
    with pytest.raises(ConfigurationError, match="AGENTS_REDIS_PASSWORD") as caught:
        await backend.ledger.beat(worker())
    for secret in (PASSWORD, "wrong"):
        assert secret not in str(caught.value).replace("WRONGPASS", "")


async def test_watching_takes_fewer_rights(user: User, harness: RedisHarness) -> None:
    """Reads and SUBSCRIBE are enough to follow a run."""
    backend, name = harness.open(), conversation_name()
    run = new_run(name)
    await backend.ledger.submit(run)
    await backend.conversations.append(name, [imported("x")])
    user.allow("-@all", "+@read", "-@dangerous", "-@scripting")
    user.allow("+subscribe", "+unsubscribe", "+ping")
    watcher = harness.open()
    topic = watcher.ledger.topic(run.id)
    async with asyncio.timeout(5), watcher.ledger.notifications.subscribe(topic):
        assert (await watcher.ledger.get(run.id)).id == run.id
        assert await watcher.ledger.list_events(run.id)
        assert await watcher.conversations.list_messages(name)
    with pytest.raises(ConfigurationError):
        await watcher.ledger.cancel(run.id)
