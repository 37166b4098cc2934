"""Commands of many callers over one connection to Redis, and what they are told when it is bad."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis_client import connect
from shared.redis_sharing import SharingRedis
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.network import Proxy
from tests.services import RedisServer

pytestmark = pytest.mark.integration

TIMEOUT_S = 1.0


@pytest.fixture
def network(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(redis_server.port) as network:
        yield network


@pytest.fixture
async def client(network: Proxy) -> AsyncIterator[SharingRedis]:
    client = open_client(network)
    yield client
    await client.aclose()


@pytest.fixture
async def other(redis_server: RedisServer) -> AsyncIterator[SharingRedis]:
    """Another client, past the network."""
    settings = Settings.model_validate({"redis_url": redis_server.url})
    client = connect(settings)
    assert isinstance(client, SharingRedis)
    yield client
    await client.aclose()


def open_client(network: Proxy) -> SharingRedis:
    url = f"redis://{network.address}/0"
    client = connect(Settings.model_validate({"redis_url": url, "redis_timeout_s": TIMEOUT_S}))
    assert isinstance(client, SharingRedis)
    return client


async def echo(client: SharingRedis, word: str) -> str:
    """What the server answers: the same word."""
    return str(await client.execute_command("ECHO", word))


async def test_a_thousand_commands_at_once_share_one_connection(client: SharingRedis) -> None:
    """Each gets its own answer."""
    words = [str(number) for number in range(1000)]
    answers = await asyncio.gather(*(echo(client, word) for word in words))
    assert answers == words
    ids = await asyncio.gather(*(client.execute_command("CLIENT", "ID") for _ in range(100)))
    assert len(set(ids)) == 1


async def test_what_redis_py_makes_of_answers_is_made_of_them(client: SharingRedis) -> None:
    await client.hset("hash", mapping={"a": "1", "b": "ü"})
    assert await client.hgetall("hash") == {"a": "1", "b": "ü"}
    cursor = await client.xadd("stream", {"data": "x"})
    assert await client.xrange("stream") == [(cursor, {"data": "x"})]
    await client.zadd("set", {"one": 1.5})
    assert [list(pair) for pair in await client.zrange("set", 0, -1, withscores=True)] == [
        ["one", 1.5]
    ]
    assert await client.ping() is True
    assert (await client.info("server"))["redis_version"]


async def test_what_is_no_text_is_sent_as_well(client: SharingRedis) -> None:
    """Bytes, numbers, and what was read with bytes in it that are no UTF-8."""
    await client.set("raw", b"\xff\xfe")
    read = await client.get("raw")
    assert read == "\udcff\udcfe"
    await client.set("again", read)
    assert await client.strlen("again") == 2
    await client.set("number", 1.5)
    assert await client.get("number") == "1.5"


async def test_an_error_is_for_who_asked(client: SharingRedis) -> None:
    await client.set("text", "x")
    answers = await asyncio.gather(
        client.get("text"), client.lpush("text", "y"), client.get("text"), return_exceptions=True
    )
    assert [answers[0], answers[2]] == ["x", "x"]
    assert isinstance(answers[1], ResponseError)


async def test_who_is_cancelled_disturbs_nobody(client: SharingRedis) -> None:
    """Its answer comes all the same, and is not taken for the next one's."""
    await client.ping()
    asked = [asyncio.create_task(echo(client, str(number))) for number in range(50)]
    await asyncio.sleep(0)
    for task in asked[::2]:
        task.cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert answers[1::2] == [str(number) for number in range(50)][1::2]
    assert await echo(client, "next") == "next"


async def test_who_is_cancelled_while_it_connects_disturbs_nobody(client: SharingRedis) -> None:
    first, second = (asyncio.create_task(echo(client, word)) for word in ("first", "second"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "second"


async def test_a_large_value_passes(client: SharingRedis) -> None:
    large = "x" * 20_000_000
    await client.set("large", large)
    first, second = await asyncio.gather(client.get("large"), echo(client, "small"))
    assert (first, second) == (large, "small")


async def test_who_waits_on_a_connection_that_is_lost_is_told(
    network: Proxy, client: SharingRedis
) -> None:
    """All of them, at once; the next command connects anew."""
    before = await client.execute_command("CLIENT", "ID")
    network.swallow_answers()
    waiting = [asyncio.create_task(echo(client, str(number))) for number in range(20)]
    await asyncio.sleep(0.05)
    network.cut()
    async with asyncio.timeout(0.5):
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(answer) for answer in answers} == {RedisConnectionError}
    network.restore()
    assert await client.execute_command("CLIENT", "ID") != before


async def test_a_connection_that_was_closed_while_idle_is_not_used(
    client: SharingRedis, other: SharingRedis
) -> None:
    """A server closes what was idle for long; nobody gets an error for that."""
    before = await client.execute_command("CLIENT", "ID")
    await other.execute_command("CLIENT", "KILL", "ID", before)
    await asyncio.sleep(0.05)
    assert await echo(client, "x") == "x"


async def test_a_silent_connection_is_replaced_before_its_time_is_up(
    network: Proxy, client: SharingRedis
) -> None:
    """Its packets vanish: who asked waits for all of the time, who asks next does not."""
    await client.ping()
    network.swallow_answer_to(b"lost")
    started = time.monotonic()
    lost = asyncio.create_task(echo(client, "lost"))

    async def is_answered() -> bool:
        try:
            async with asyncio.timeout(0.2):
                return bool(await echo(client, "x"))
        except TimeoutError:
            return False

    await eventually(is_answered)
    assert time.monotonic() - started < TIMEOUT_S
    assert not lost.done()
    with pytest.raises(RedisTimeoutError):
        await lost
    assert TIMEOUT_S <= time.monotonic() - started < 2 * TIMEOUT_S


async def test_a_slow_server_loses_nothing(client: SharingRedis, other: SharingRedis) -> None:
    """What was asked before it stood still is answered, over however many connections."""
    await client.ping()
    await other.execute_command("CLIENT", "PAUSE", 700)
    asked = []
    for number in range(12):
        asked.append(asyncio.create_task(echo(client, str(number))))
        await asyncio.sleep(0.05)
    assert await asyncio.gather(*asked) == [str(number) for number in range(12)]

    async def is_one_left() -> bool:
        return len(client._lines) == 1

    await eventually(is_one_left)


async def test_a_process_that_stood_still_reads_what_has_come_meanwhile(
    client: SharingRedis,
) -> None:
    """Its time is up, but the answer has long been there."""
    await client.ping()
    asked = asyncio.create_task(echo(client, "x"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it is sent
    time.sleep(1.5 * TIMEOUT_S)  # noqa: ASYNC251 - the whole process stands still
    assert await asked == "x"


async def test_a_server_that_is_not_there_is_an_error_for_each(network: Proxy) -> None:
    network.cut()
    client = open_client(network)
    answers = await asyncio.gather(*(client.ping() for _ in range(10)), return_exceptions=True)
    assert all(isinstance(answer, RedisConnectionError | OSError) for answer in answers)
    network.restore()
    assert await client.ping() is True
    await client.aclose()


async def test_a_server_that_accepts_and_says_nothing_is_an_error_in_time(network: Proxy) -> None:
    network.black_hole()
    client = open_client(network)
    started = time.monotonic()
    with pytest.raises((RedisTimeoutError, RedisConnectionError)):
        await client.ping()
    assert time.monotonic() - started < 4 * TIMEOUT_S
    network.restore()
    assert await client.ping() is True
    await client.aclose()


async def test_who_waits_when_it_is_closed_is_told(
    client: SharingRedis, other: SharingRedis
) -> None:
    await client.ping()
    await other.execute_command("CLIENT", "PAUSE", 300)
    waiting = asyncio.create_task(echo(client, "x"))
    await asyncio.sleep(0.02)
    await client.aclose()
    with pytest.raises(RedisConnectionError):
        await waiting
    await other.execute_command("CLIENT", "UNPAUSE")
