"""A PostgreSQL that does not answer, or says no: named errors, in bounded time, and no repair."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from shared.conversation.postgres import PostgresConversationStore, open_postgres
from shared.conversation.protocol import Writer
from shared.errors import ConfigurationError, StoreUnavailableError
from shared.postgres_risks import find_risks
from shared.settings import Settings
from shared.testing.conversation.value import (
    conversation_name,
    imported,
    messages,
    run_name,
    texts,
)
from shared.testing.waiting import eventually
from tests.contract.stores.postgres import PostgresStores
from tests.network import Proxy
from tests.topologies.postgres import PostgresServer, run_postgres
from tests.topologies.rabbitmq import free_port

pytestmark = pytest.mark.integration

SHORT_S = 0.5
BOUND_S = 3.0
"""Far more than `SHORT_S` on a busy machine, and less than any time limit of a library."""


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
    own_server.thaw()
    if not own_server.is_running:
        own_server.start()
    await stores.aclose()


@pytest.fixture
def store(stores: PostgresStores) -> PostgresConversationStore:
    return stores.build(conversation_timeout_s=SHORT_S)


async def refused(store: PostgresConversationStore, words: str, kind: Any) -> None:
    """Assert that every method raises this error, soon, and without a password."""
    writer, cursor = Writer(run_name(), 1), "p5"
    calls: list[Callable[[], Any]] = [
        lambda: store.claim("room", writer, limit=5),
        lambda: store.append("room", [imported("x")]),
        lambda: store.list_messages("room"),
        lambda: store.has_message("room", cursor),
        lambda: store.retract("room", writer),
        lambda: store.expire("room", 5),
        lambda: store.clear("room"),
        lambda: store.remove("room", cursor),
        lambda: store.delete("room"),
        lambda: store.count("room"),
        lambda: anext(store.conversation_ids()),
    ]
    for call in calls:
        started = time.monotonic()
        with pytest.raises(kind, match=words) as caught:
            await call()
        assert time.monotonic() - started < BOUND_S
        assert "sesame" not in str(caught.value)
        assert isinstance(caught.value.__cause__, Exception)


async def test_nobody_listens_there(stores: PostgresStores) -> None:
    """The error names the setting."""
    url = f"postgresql://nobody:sesame@127.0.0.1:{free_port()}/app"
    await refused(stores.build(url=url), "AGENTS_CONVERSATION_URL", StoreUnavailableError)


async def test_a_server_that_hangs(
    own_server: PostgresServer, store: PostgresConversationStore
) -> None:
    """Over connections that were there, and new ones."""
    await store.append("room", [imported("a")])
    own_server.freeze()
    await refused(store, "did not answer within", StoreUnavailableError)
    own_server.thaw()

    async def answers() -> bool:
        try:
            return await store.count("room") == 1
        except StoreUnavailableError:
            return False

    await eventually(answers)


async def test_a_server_that_hangs_from_the_beginning(
    own_server: PostgresServer, store: PostgresConversationStore
) -> None:
    """However many ask, each hears of it within the time limit of one."""
    own_server.freeze()
    begun = time.monotonic()
    answers = await asyncio.gather(
        *(store.count("room") for _ in range(50)), return_exceptions=True
    )
    assert time.monotonic() - begun < BOUND_S
    assert {type(answer) for answer in answers} == {StoreUnavailableError}


async def test_who_gives_up_on_the_first_call_takes_nobody_along(
    stores: PostgresStores,
) -> None:
    """The others go on waiting for the same tables."""
    store = stores.build()
    calls = [asyncio.create_task(store.count("room")) for _ in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    assert await asyncio.gather(*calls[1:]) == [0, 0]


async def test_a_network_that_swallows_everything(stores: PostgresStores) -> None:
    """A caller is not held up by psycopg's own attempts to cancel what it gave up."""
    with Proxy(stores.server.port) as proxy:
        url = stores.users.url.replace(str(stores.server.port), str(proxy.port))
        store = stores.build(url=url, conversation_timeout_s=SHORT_S)
        await store.append("room", [imported("a")])
        proxy.black_hole()
        await refused(store, "did not answer within", StoreUnavailableError)
        call = asyncio.create_task(store.count("room"))
        await asyncio.sleep(0)
        started = time.monotonic()
        call.cancel()
        await asyncio.wait([call])
        assert time.monotonic() - started < SHORT_S
        proxy.restore()
        assert await store.count("room") == 1


async def test_a_lost_answer_is_no_second_message(stores: PostgresStores) -> None:
    """The append took effect; repeating it is answered with the cursors of then."""
    name, run_id = conversation_name(), run_name()
    writer = Writer(run_id, 1)
    with Proxy(stores.server.port) as proxy:
        url = stores.users.url.replace(str(stores.server.port), str(proxy.port))
        store = stores.build(url=url, conversation_timeout_s=SHORT_S)
        await store.append(name, messages(run_id, [0]), writer=writer)
        proxy.swallow_answer_to(b"append_1")
        with pytest.raises(StoreUnavailableError):
            await store.append(name, messages(run_id, [1, 2]), writer=writer)
        assert proxy.has_swallowed
        stored = [one.cursor for one in await stores.build().list_messages(name)]
        again = await store.append(name, messages(run_id, [1, 2]), writer=writer)
        assert again == stored[1:]
        assert [one.cursor for one in await store.list_messages(name)] == stored


async def test_a_server_that_was_restarted_is_used_again(
    own_server: PostgresServer, stores: PostgresStores
) -> None:
    """Whoever asks next notices nothing: connections that are dead are replaced beforehand."""
    store = stores.build(conversation_connections=5)
    await asyncio.gather(*(store.append(f"room-{n}", [imported("a")]) for n in range(20)))
    own_server.restart()
    for number in range(20):
        assert await store.count(f"room-{number}") == 1


async def test_a_server_that_crashed_has_all_that_it_acknowledged(
    own_server: PostgresServer, store: PostgresConversationStore
) -> None:
    """Away, it is an error; back, it is used at once."""
    acknowledged: list[str] = []

    async def write() -> None:
        for number in range(10_000):
            await store.append("room", [imported(str(number))])
            acknowledged.append(str(number))

    writing = asyncio.create_task(write())

    async def has_written() -> bool:
        return len(acknowledged) > 20

    await eventually(has_written)
    await asyncio.to_thread(own_server.kill)
    with pytest.raises(StoreUnavailableError):
        await writing
    with pytest.raises(StoreUnavailableError):
        await store.count("room")
    await asyncio.to_thread(own_server.start)
    stored = texts(await store.list_messages("room"))
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) - len(acknowledged) in (0, 1)  # the last answer may have been lost


async def test_wrong_credentials_are_named_and_not_shown(stores: PostgresStores) -> None:
    """Waiting helps nobody."""
    wrong = stores.users.url.replace("open%2Fsesame", "open%2Fsesame2")
    words = "AGENTS_CONVERSATION_URL"
    await refused(stores.build(url=wrong), f"credentials.*{words}", ConfigurationError)
    nobody = f"postgresql://nobody:sesame@127.0.0.1:{stores.server.port}/postgres"
    await refused(stores.build(url=nobody), f"credentials.*{words}", ConfigurationError)
    elsewhere = f"{stores.users.url.rpartition('/')[0]}/nowhere"
    await refused(stores.build(url=elsewhere), f"no such database.*{words}", ConfigurationError)


async def test_a_certificate_that_is_asked_for_is_missed(stores: PostgresStores) -> None:
    """This server has none."""
    url = f"{stores.users.url}?sslmode=require"
    await refused(stores.build(url=url), "no trusted connection", ConfigurationError)


async def test_no_connection_is_left(stores: PostgresStores) -> None:
    """At the server."""
    stores.users.execute("ALTER ROLE {user} CONNECTION LIMIT 0")
    await refused(stores.build(), "no connection left.*max_connections", StoreUnavailableError)


async def test_all_connections_of_a_process_are_in_use(stores: PostgresStores) -> None:
    """The error names the setting; those that wait within the time limit get one."""
    store = stores.build(conversation_connections=2, conversation_timeout_s=3)
    await asyncio.gather(*(store.append("room", [imported("x")]) for _ in range(50)))
    free = store._client._free
    async with free, free:
        with pytest.raises(StoreUnavailableError, match="AGENTS_CONVERSATION_CONNECTIONS"):
            await store.count("room")
    assert await store.count("room") == 50


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("53100", "disk of PostgreSQL is full.*Free some space"),
        ("53200", "cannot serve this now"),
        ("57P03", "cannot serve this now"),
        ("58030", "cannot serve this now"),
        ("40P01", "cannot serve this now"),
        ("57014", "AGENTS_CONVERSATION_TIMEOUT_S"),
    ],
)
async def test_a_server_that_cannot_write(stores: PostgresStores, code: str, words: str) -> None:
    """Nothing of the append is stored; once the trouble is over, it goes well."""
    stores.users.execute(
        "CREATE FUNCTION {schema}.fail() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$BEGIN RAISE EXCEPTION 'in trouble' USING ERRCODE = '{code}'; END$$"
    )
    stores.users.execute(
        "CREATE TRIGGER fail BEFORE INSERT ON {schema}.message EXECUTE FUNCTION {schema}.fail()"
    )
    store = stores.build()
    with pytest.raises(StoreUnavailableError, match=words):
        await store.append("room", [imported("x")])
    assert await store.list_messages("room") == []
    stores.users.execute("DROP TRIGGER fail ON {schema}.message")
    await store.append("room", [imported("x")])
    assert await store.count("room") == 1


async def test_a_server_that_is_read_only(stores: PostgresStores) -> None:
    """As a standby is, or one that ran into trouble: it can be read."""
    await stores.build().append("room", [imported("x")])
    stores.users.execute("ALTER ROLE {user} SET default_transaction_read_only = on")
    store = stores.build()
    assert await store.count("room") == 1
    with pytest.raises(StoreUnavailableError, match=r"takes no writes.*primary"):
        await store.append("room", [imported("y")])


async def test_of_several_hosts_the_primary_is_found(stores: PostgresStores) -> None:
    """Behind one that nobody listens on; none that takes writes is an error that says so."""
    name, _, rest = stores.users.url.partition("@")
    url = f"{name}@127.0.0.1:{free_port()},{rest}"
    await stores.build(url=url).append("room", [imported("x")])
    stores.users.execute("ALTER ROLE {user} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailableError):
        await stores.build(url=url).count("room")


async def test_a_call_that_is_given_up_takes_no_connection_along(stores: PostgresStores) -> None:
    """Its connection is closed; the next one is fresh, and answers what it was asked."""
    store = stores.build(conversation_connections=1)
    await store.append("room", [imported("a")])
    for _ in range(20):
        call = asyncio.create_task(store.list_messages("room"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert await store.count("room") == 1


async def test_a_missing_right_is_named(stores: PostgresStores) -> None:
    """With the page that lists the rights."""
    stores.users.execute("REVOKE DELETE ON {schema}.message FROM {user}")
    store = stores.build()
    await store.append("room", [imported("x")])
    with pytest.raises(ConfigurationError, match=r"message.*docs/postgresql\.md"):
        await store.clear("room")


async def test_watching_takes_fewer_rights(stores: PostgresStores) -> None:
    """To read is enough to follow a conversation, and not enough to write to it."""
    await stores.build().append("room", [imported("x")])
    stores.users.execute(
        "REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} FROM {user}"
    )
    watcher = stores.build()
    async with watcher.notifications.subscribe(watcher.topic("room")):
        assert texts(await watcher.list_messages("room")) == ["x"]
        assert await watcher.count("room") == 1
        assert [one async for one in watcher.conversation_ids()] == ["room"]
    with pytest.raises(ConfigurationError, match="lacks a right"):
        await watcher.append("room", [imported("y")])


async def test_a_closed_store_says_so(stores: PostgresStores) -> None:
    """Closing twice is harmless, and no connection is left."""
    store = stores.build()
    await store.append("room", [imported("x")])
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.count("room")


async def test_connections_that_nobody_needs_are_closed(
    stores: PostgresStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst opens many, quiet times keep one."""
    store = stores.build()
    await asyncio.gather(*(store.append(f"room-{n}", [imported("a")]) for n in range(20)))
    assert len(store._client._idle) > 1
    monkeypatch.setattr("shared.postgres_client.IDLE_S", 0.0)
    await store.count("room-1")
    assert len(store._client._idle) == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:sesame@host:sesame/db",
        "postgresql://u:ses@me:x@[host/db",
        "postgresql://u:sesame@host/db?sesame=1",
        "postgresql://u:sesame@host/db?sslmode",
        "mysql://u:sesame@host/db",
        "sesame",
    ],
)
def test_something_that_is_no_url_is_refused_when_built(url: str) -> None:
    """And not quoted: a piece of it may be a password."""
    with pytest.raises(ConfigurationError, match="AGENTS_CONVERSATION_URL") as caught:
        open_postgres(url, Settings())
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("options", "risks"),
    [
        ({"fsync": "on", "full_page_writes": "on"}, []),
        ({"fsync": "off", "full_page_writes": "on"}, ["no_fsync"]),
        ({"fsync": "on", "full_page_writes": "off"}, ["torn_pages"]),
        (
            {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "off"},
            ["asynchronous_commit"],
        ),
    ],
    ids=["safe", "no fsync", "torn pages", "asynchronous"],
)
async def test_a_server_that_forgets_is_warned_of(
    options: dict[str, str], risks: list[str]
) -> None:
    """Each with what to set; one that does not answer is passed over."""
    with run_postgres(options) as server:
        store = open_postgres(server.url, Settings(conversation_timeout_s=5))
        found = await find_risks(store._client)
        assert [risk.name for risk in found] == risks
        assert all("set " in risk.advice for risk in found)
        server.stop()
        assert await store.find_risks() == []
        await store.aclose()
