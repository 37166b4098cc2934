"""Hints over PostgreSQL: one connection, which may break; the channel is everybody's."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from structlog.testing import capture_logs

from shared.backend import Backend
from shared.conversation.postgres import PostgresConversationStore
from shared.errors import ConfigurationError, StoreUnavailableError
from shared.memory_backend import build_memory_backend
from shared.notification.protocol import Subscription
from shared.settings import Settings
from shared.testing.conversation.value import imported
from shared.testing.waiting import eventually
from tests.contract.notification import NotificationsContract
from tests.contract.stores.postgres import PostgresStores
from tests.network import Proxy
from tests.topologies.postgres import PostgresServer, run_postgres

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server to be stopped and frozen."""
    with run_postgres() as server:
        yield server


@pytest.fixture
async def stores(own_server: PostgresServer) -> AsyncIterator[PostgresStores]:
    stores = PostgresStores(own_server)
    await stores.prepare()
    yield stores
    await stores.aclose()


@pytest.fixture
def store(stores: PostgresStores) -> PostgresConversationStore:
    return stores.build()


class TestNotifications(NotificationsContract):
    """See `NotificationsContract`."""

    @pytest.fixture
    def backend(self, stores: PostgresStores) -> Backend:
        return backend_over(stores.build())

    @pytest.fixture
    def elsewhere(self, stores: PostgresStores) -> Backend:
        return backend_over(stores.build())


def backend_over(store: PostgresConversationStore) -> Backend:
    """The runs do not matter here."""
    ledger = build_memory_backend(Settings()).ledger
    return Backend(ledger=ledger, conversations=store, close=(store.aclose,))


async def test_a_thousand_watchers_share_one_connection(
    stores: PostgresStores, store: PostgresConversationStore
) -> None:
    """Each hears of its own conversation, and only of that."""
    names = [f"room-{number}" for number in range(1000)]
    is_in = asyncio.Semaphore(0)

    async def watch(name: str) -> str:
        async with store.notifications.subscribe(store.topic(name)) as hints:
            is_in.release()
            await hints.wait(60)
            [message] = await store.list_messages(name)
            return message.text

    watching = [asyncio.create_task(watch(name)) for name in names]
    for _ in names:
        await is_in.acquire()
    assert listening(stores) == 1
    writer = stores.build()
    await asyncio.gather(*(writer.append(name, [imported(name)]) for name in names[:-1]))
    assert await asyncio.gather(*watching[:-1]) == names[:-1]
    assert not watching[-1].done()
    await writer.append(names[-1], [imported(names[-1])])
    assert await watching[-1] == names[-1]
    assert listening(stores) == 1


@pytest.mark.parametrize("way", ["restart", "crash", "terminated"])
async def test_watchers_hear_of_what_came_while_the_connection_was_gone(
    stores: PostgresStores, store: PostgresConversationStore, way: str
) -> None:
    """The new connection is a hint to everybody, once hints come over it again."""
    async with (
        store.notifications.subscribe("room-a") as first,
        store.notifications.listen("room-b") as second,
    ):
        await drain(first)
        if way == "terminated":
            stores.server.execute(f"SELECT pg_terminate_backend(pid) {_LISTENING}")
        else:
            stop = stores.server.stop if way == "restart" else stores.server.kill
            await asyncio.to_thread(stop)
            await asyncio.to_thread(stores.server.start)
        assert await first.wait(10)
        assert await anext(second) == ""
        await drain(first)
        writer = stores.build()
        [cursor] = await writer.append("room-b", [imported("x")])
        assert await anext(second) == cursor
        await writer.append("room-a", [imported("x")])
        assert await first.wait(5)


async def test_a_connection_that_died_in_silence_is_found_out(
    stores: PostgresStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets vanish, nobody closes anything: it is asked whether it lives."""
    monkeypatch.setattr("shared.notification.postgres.IDLE_S", 0.3)
    with Proxy(stores.server.port) as proxy:
        url = stores.users.url.replace(str(stores.server.port), str(proxy.port))
        store = stores.build(url=url, conversation_timeout_s=0.5)
        async with store.notifications.subscribe("room") as hints:
            await drain(hints)
            with capture_logs() as entries:
                proxy.black_hole()
                await stores.build().append("room", [imported("x")])

                async def is_found_out() -> bool:
                    return any(one["event"] == "notifications.disconnected" for one in entries)

                await eventually(is_found_out)
            assert not await hints.wait(0)
            proxy.restore()
            assert await hints.wait(10)


async def test_who_cannot_listen_is_told_why(stores: PostgresStores) -> None:
    """Within the time limit; a wrong password as such."""
    wrong = stores.build(
        url=stores.users.url.replace("sesame", "wrong"), conversation_timeout_s=0.5
    )
    with pytest.raises(ConfigurationError, match="credentials"):
        async with wrong.notifications.subscribe("room"):
            pass
    with Proxy(stores.server.port) as proxy:
        proxy.cut()
        url = stores.users.url.replace(str(stores.server.port), str(proxy.port))
        store = stores.build(url=url, conversation_timeout_s=0.5)
        with pytest.raises(StoreUnavailableError, match="lets nobody listen"):
            async with store.notifications.subscribe("room"):
                pass
        proxy.restore()

        async def is_let_in() -> bool:
            try:
                async with store.notifications.subscribe("room"):
                    return True
            except StoreUnavailableError:
                return False

        await eventually(is_let_in)


async def test_a_connection_over_which_nothing_comes_lets_nobody_in(
    stores: PostgresStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler that shares connections hears LISTEN, and delivers to nobody."""
    monkeypatch.setattr("shared.notification.postgres._PING", "SELECT %s::text, %s::text")
    store = stores.build(conversation_timeout_s=0.5)
    with pytest.raises(StoreUnavailableError, match="pooler"):
        async with store.notifications.subscribe("room"):
            pass


async def test_strange_payloads_disturb_nobody(
    stores: PostgresStores, store: PostgresConversationStore
) -> None:
    """Whoever reaches the database may publish to the channel."""
    channel = store._schema.channel
    async with store.notifications.subscribe("room") as hints:
        await drain(hints)
        for payload in ("", "\n", "room\n\n\n", "x" * 7999, "é\n", "ping\n"):
            stores.server.execute("SELECT pg_notify(%s, %s)", channel, payload)
        assert await hints.wait(5), "a topic is a topic, whatever comes behind it"
        await drain(hints)
        await store.append("room", [imported("x")])
        assert await hints.wait(5)


_LISTENING = """
    FROM pg_stat_activity WHERE query LIKE 'SELECT pg_notify%' OR query = 'SELECT 1'
"""
"""Those whose last statement was one of the task that listens."""


def listening(stores: PostgresStores) -> int:
    """How many connections listen."""
    [[count]] = stores.server.execute(f"SELECT count(*) {_LISTENING}")
    return int(count)


async def drain(hints: Subscription) -> None:
    """A subscription may begin with hints of its own."""
    while await hints.wait(0.1):
        pass
