"""The schema: made once, by one of many; apart from others; refused where it is too new."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from psycopg import sql

from shared import postgres_schema
from shared.conversation.postgres import PostgresConversationStore, open_postgres
from shared.errors import ConfigurationError
from shared.postgres_schema import NEEDS, NEWEST, migration, schema_name
from shared.settings import Settings
from shared.testing.conversation.value import imported, texts
from tests.contract.stores.postgres import PostgresStores
from tests.topologies.postgres import PostgresServer

pytestmark = pytest.mark.integration

STRANGE = ("Agents", "a.b:c@d-e+f=g", "9", "public", "pg_agents", "information_schema", "select")


@pytest.fixture
async def stores(postgres_server: PostgresServer) -> AsyncIterator[PostgresStores]:
    stores = PostgresStores(postgres_server)
    yield stores
    await stores.aclose()


def owner(stores: PostgresStores) -> PostgresConversationStore:
    """A store of its own for the user who may make the schema."""
    return stores.build(url=stores.users.owner_url)


async def test_of_ten_that_start_at_once_one_makes_the_schema(stores: PostgresStores) -> None:
    """And all of them can use it."""
    places = [owner(stores) for _ in range(10)]
    await asyncio.gather(*(place.prepare() for place in places))
    await asyncio.gather(*(place.append("room", [imported("x")]) for place in places))
    assert await places[0].count("room") == 10
    assert noted(stores) == [(number, NEEDS[number]) for number in range(1, NEWEST + 1)]


async def test_who_finds_the_schema_needs_no_right_to_make_it(stores: PostgresStores) -> None:
    """Otherwise the error says who may, and how."""
    user = stores.build()
    with pytest.raises(ConfigurationError, match=r"agent-worker prepare.*docs/postgresql\.md"):
        await user.append("room", [imported("x")])
    await stores.prepare()
    await user.append("room", [imported("x")])
    assert await user.count("room") == 1


async def test_a_schema_that_needs_a_newer_release_is_refused(stores: PostgresStores) -> None:
    """What was added without disturbing this release is not."""
    await stores.prepare()
    note(stores, NEWEST + 1, needs=NEWEST)
    await stores.build().append("room", [imported("x")])
    note(stores, NEWEST + 2, needs=NEWEST + 2)
    with pytest.raises(ConfigurationError, match=f"migration {NEWEST + 2}.*Update this process"):
        await stores.build().append("room", [imported("y")])
    with pytest.raises(ConfigurationError, match="Update this process"):
        await owner(stores).prepare()
    assert noted(stores)[-1] == (NEWEST + 2, NEWEST + 2)


async def test_a_migration_is_applied_behind_those_that_were(
    stores: PostgresStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update finds the schema of the release before, and changes it while that one works."""
    await stores.prepare()
    before = stores.build()
    await before.append("room", [imported("a")])
    following = {NEWEST + 1: "ALTER TABLE {schema}.message ADD COLUMN note text"}
    monkeypatch.setattr(postgres_schema, "NEEDS", {**NEEDS, NEWEST + 1: NEWEST})
    monkeypatch.setattr(postgres_schema, "NEWEST", NEWEST + 1)
    monkeypatch.setattr(postgres_schema, "migration", lambda number: following[number])
    await asyncio.gather(*(owner(stores).prepare() for _ in range(5)))
    assert noted(stores)[-1] == (NEWEST + 1, NEWEST)
    await before.append("room", [imported("b")])
    assert texts(await stores.build().list_messages("room")) == ["a", "b"]


async def test_a_migration_that_fails_leaves_nothing(
    stores: PostgresStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one transaction, the schema itself included."""
    broken = f"{migration(1)}; SELECT nonsense"
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "migration", lambda _: broken)
        with pytest.raises(Exception, match="nonsense"):
            await owner(stores).prepare()
    name = schema_name(stores.key_prefix)
    assert stores.server.execute("SELECT to_regnamespace(%s)", f'"{name}"') == [(None,)]
    await owner(stores).prepare()
    assert noted(stores) == [(1, 1)]


async def test_two_systems_in_one_database_do_not_meet(postgres_server: PostgresServer) -> None:
    """Neither their messages nor their hints, whatever their key prefixes are."""
    tail = uuid4().hex
    prefixes = [*STRANGE, "p" * 200, "p" * 199, f"{'q' * 31}{tail}", f"{'q' * 30}{tail}"]
    places = [
        open_postgres(postgres_server.url, Settings(key_prefix=prefix)) for prefix in prefixes
    ]
    try:
        first, *rest = places
        for number, place in enumerate(places):
            await place.append("room", [imported(str(number))])
        for number, place in enumerate(places):
            assert texts(await place.list_messages("room")) == [str(number)]
        async with first.notifications.subscribe(first.topic("room")) as hints:
            for place in rest:
                await place.append("room", [imported("x")])
            assert not await hints.wait(0.2)
            await first.append("room", [imported("x")])
            assert await hints.wait(5)
    finally:
        for prefix, place in zip(prefixes, places, strict=True):
            await place.aclose()
            name = sql.Identifier(schema_name(prefix))
            postgres_server.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))


async def test_a_schema_of_somebody_else_is_left_alone(stores: PostgresStores) -> None:
    """It holds a table of one of our names; the error says to choose another prefix."""
    stores.users.execute("CREATE SCHEMA {schema} AUTHORIZATION {owner}")
    stores.users.execute("CREATE TABLE {schema}.message (x int)")
    with pytest.raises(ConfigurationError, match="another AGENTS_KEY_PREFIX"):
        await owner(stores).prepare()


async def test_a_database_that_cannot_hold_all_text_is_refused(
    postgres_server: PostgresServer,
) -> None:
    """With what to create instead."""
    name = f"latin-{uuid4().hex}"
    quoted = sql.Identifier(name)
    postgres_server.execute(
        sql.SQL("CREATE DATABASE {} ENCODING 'LATIN1' TEMPLATE template0").format(quoted)
    )
    url = f"{postgres_server.url.rpartition('/')[0]}/{name}"
    store = open_postgres(url, Settings())
    try:
        with pytest.raises(ConfigurationError, match=r"LATIN1.*ENCODING 'UTF8'"):
            await store.prepare()
    finally:
        await store.aclose()
        postgres_server.execute(sql.SQL("DROP DATABASE {}").format(quoted))


async def test_tables_that_are_gone_are_made_again(stores: PostgresStores) -> None:
    """As a Redis that comes back empty: an error once, and then an empty store."""
    place = owner(stores)
    await place.append("room", [imported("x")])
    stores.users.execute("DROP SCHEMA {schema} CASCADE")
    with pytest.raises(Exception, match="tables of conversations are gone"):
        await place.append("room", [imported("y")])
    await place.append("room", [imported("z")])
    assert texts(await place.list_messages("room")) == ["z"]


def test_every_migration_has_a_file_and_says_what_it_needs() -> None:
    """Numbered from 1 without a gap, and none needs more than itself."""
    assert list(NEEDS) == list(range(1, NEWEST + 1))
    assert all(migration(number) and NEEDS[number] <= number for number in NEEDS)


def noted(stores: PostgresStores) -> list[tuple[int, int]]:
    """The migrations that the schema says were applied."""
    statement = sql.SQL("SELECT number, needs FROM {}.migration ORDER BY number")
    return [(row[0], row[1]) for row in stores.server.execute(statement.format(stores.schema))]


def note(stores: PostgresStores, number: int, *, needs: int) -> None:
    """Pretend that a newer release has been here."""
    statement = sql.SQL("INSERT INTO {}.migration (number, needs) VALUES (%s, %s)")
    stores.server.execute(statement.format(stores.schema), number, needs)
