"""Conversations in Redis by URL alone: the same as those of a backend, closed with the store."""

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from shared.conversation.url import conversation_from_url
from shared.errors import ConfigurationError
from shared.redis_backend import build_redis_backend
from shared.settings import Settings
from shared.testing.conversation.value import conversation_name, imported, texts
from shared.testing.waiting import eventually
from tests.services import RedisServer
from tests.topologies.cluster import RedisCluster

pytestmark = pytest.mark.integration


@pytest.fixture(params=["server", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        return cluster.url
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


async def test_a_store_by_url_and_a_backend_see_the_same(url: str) -> None:
    """Key prefix and retention are those of the settings; hints arrive, too."""
    name = conversation_name()
    settings = Settings(redis_url=SecretStr(url), broker_url=SecretStr("amqp://nobody.is.rung"))
    elsewhere = settings.model_copy(update={"redis_url": SecretStr("redis://nowhere.invalid/0")})
    backend, store = build_redis_backend(settings), conversation_from_url(url, elsewhere)
    assert store.is_distributed
    async with store.notifications.subscribe(store.topic(name)) as hints:
        await backend.conversations.append(name, [imported("x")])
        assert await hints.wait(5)
    assert texts(await store.list_messages(name)) == ["x"]
    assert await store.delete(name) == 1
    await backend.aclose()
    await store.aclose()
    await store.aclose()


async def test_closing_gives_the_connections_back(redis_server: RedisServer) -> None:
    """Those for commands and the one that listens."""
    async with Redis.from_url(redis_server.url, decode_responses=True) as client:

        async def clients() -> int:
            return int((await client.info("clients"))["connected_clients"])

        before = await clients()
        store = conversation_from_url(redis_server.url)
        async with store.notifications.subscribe(store.topic("x")):
            assert await store.count("x") == 0
            assert await clients() >= before + 2
        await store.aclose()

        async def are_gone() -> bool:
            return await clients() <= before

        assert await eventually(are_gone)


async def test_a_wrong_password_in_the_url_is_a_named_error(redis_server: RedisServer) -> None:
    """It does not say which one that was."""
    place = redis_server.url.replace("redis://", "redis://nobody:wrong-and-secret@")
    store = conversation_from_url(place)
    with pytest.raises(ConfigurationError) as caught:
        await store.count("x")
    assert "wrong-and-secret" not in str(caught.value)
    await store.aclose()
