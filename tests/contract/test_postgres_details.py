"""What only PostgreSQL can get wrong: transactions that overlap, rows that outlive their time."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from shared.conversation.postgres import PostgresConversationStore
from shared.conversation.protocol import Writer
from shared.errors import InvalidCursorError, UnstorableError
from shared.message import Message, Role
from shared.testing.conversation.value import (
    conversation_name,
    imported,
    message,
    messages,
    run_name,
    texts,
)
from shared.testing.waiting import eventually
from tests.contract.stores.postgres import PostgresStores
from tests.topologies.postgres import PostgresServer

pytestmark = pytest.mark.integration


@pytest.fixture
async def stores(postgres_server: PostgresServer) -> AsyncIterator[PostgresStores]:
    stores = PostgresStores(postgres_server)
    await stores.prepare()
    yield stores
    await stores.aclose()


@pytest.fixture
def store(stores: PostgresStores) -> PostgresConversationStore:
    return stores.build()


async def test_a_reader_behind_a_cursor_skips_nothing_that_is_committed_later(
    stores: PostgresStores, store: PostgresConversationStore
) -> None:
    """Eight processes append at once; who follows sees each message once, in the final order."""
    name, each = conversation_name(), 25
    writers = [stores.build() for _ in range(8)]

    async def write(place: PostgresConversationStore, number: int) -> None:
        for part in range(each):
            await place.append(name, [imported(f"{number}.{part}"), imported("x")])

    async def follow() -> list[str]:
        seen: list[Message] = []
        while len(seen) < 2 * each * len(writers):
            seen += await store.list_messages(name, after=seen[-1].cursor if seen else None)
        return [one.id for one in seen]

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(place, number) for number, place in enumerate(writers)))
    async with asyncio.timeout(30):
        seen = await following
    assert seen == [one.id for one in await store.list_messages(name)]


async def test_a_change_that_is_not_committed_holds_up_its_own_conversation_only(
    stores: PostgresStores,
) -> None:
    """Nobody overtakes it there, so its number is not one that a reader has passed already."""
    store, name, other = stores.build(conversation_timeout_s=0.5), "room-a", "room-b"
    await store.append(name, [imported("a")])
    async with await psycopg.AsyncConnection.connect(stores.server.url) as blocker:
        statement = psycopg.sql.SQL("SELECT FROM {}.conversation WHERE id = %s FOR UPDATE")
        await blocker.execute(statement.format(stores.schema), [name])
        behind = asyncio.create_task(store.append(name, [imported("b")]))
        await store.append(other, [imported("c")])
        assert texts(await store.list_messages(name)) == ["a"]
        assert not behind.done()
        await blocker.rollback()
        await behind
    assert texts(await store.list_messages(name)) == ["a", "b"]


@pytest.mark.parametrize("level", ["serializable", "repeatable read", "read uncommitted"])
async def test_the_users_isolation_level_makes_no_difference(
    stores: PostgresStores, level: str
) -> None:
    """A database that was set up for other programs fails no append."""
    stores.users.execute(f"ALTER ROLE {{user}} SET default_transaction_isolation = '{level}'")
    name, places = conversation_name(), [stores.build() for _ in range(4)]
    await asyncio.gather(
        *(place.append(name, [imported("x")]) for place in places for _ in range(10))
    )
    assert await places[0].count(name) == len(await places[0].list_messages(name)) == 40


async def test_each_change_is_one_statement(
    store: PostgresConversationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So one round trip; a read is one for each thousand messages."""
    name, run_id = conversation_name(), run_name()
    await store.prepare()
    asked: list[Any] = []
    fetch = store._client.fetch

    async def counted(statement: Any, parameters: Any) -> Any:
        asked.append(statement)
        return await fetch(statement, parameters)

    monkeypatch.setattr(store._client, "fetch", counted)
    writer = Writer(run_id, 1)
    await store.claim(name, writer, limit=20)
    cursors = await store.append(name, messages(run_id, range(5)), writer=writer)
    await store.list_messages(name, limit=20)
    await store.has_message(name, cursors[0])
    await store.count(name)
    await store.remove(name, cursors[0])
    await store.retract(name, writer)
    await store.clear(name)
    await store.expire(name, 10)
    await store.delete(name)
    assert len(asked) == 10


@pytest.mark.parametrize(
    "cursor", ["5-0", "1763661731001-0", "p0", "p01", "p-1", "p9223372036854775808", "P5", "p5 "]
)
async def test_cursors_of_other_stores_are_refused(
    store: PostgresConversationStore, cursor: str
) -> None:
    """Who moved a conversation hears that its cursors mean nothing here, not what they seem to."""
    with pytest.raises(InvalidCursorError):
        await store.list_messages("room", after=cursor)
    with pytest.raises(InvalidCursorError):
        await store.remove("room", cursor)


async def test_the_largest_cursor_is_behind_everything(store: PostgresConversationStore) -> None:
    """As any other that no message has."""
    await store.append("room", [imported("a")])
    assert await store.list_messages("room", after=f"p{2**63 - 1}") == []


async def test_cursors_of_a_deleted_conversation_lie_before_what_follows(
    stores: PostgresStores, store: PostgresConversationStore
) -> None:
    """Numbers grow with the clock, though nothing of the conversation is left."""
    name = conversation_name()
    old = await store.append(name, [imported(str(number)) for number in range(50)])
    assert await store.delete(name) == 50
    assert rows(stores, "conversation") == 0
    await store.append(name, [imported("new")])
    assert texts(await store.list_messages(name, after=old[-1])) == ["new"]
    assert not any([await store.has_message(name, cursor) for cursor in old])


async def test_ids_that_were_imported_may_hold_anything(store: PostgresConversationStore) -> None:
    """Text of PostgreSQL cannot hold a NUL; a message with one in its run's id is found by it."""
    name = conversation_name()
    for run_id in ("a\x00b", "\ud800", "é" * 50, ""):
        given = imported("x").model_copy(update={"run_id": run_id})
        [cursor] = await store.append(name, [given])
        found = await store.list_messages(name, run_id=run_id)
        assert [one.cursor for one in found] == [cursor]


async def test_what_has_no_form_in_a_row_is_refused(store: PostgresConversationStore) -> None:
    """A position beyond all numbers; nothing is stored."""
    name = conversation_name()
    given = imported("x").model_copy(update={"position": 2**63})
    with pytest.raises(UnstorableError):
        await store.append(name, [imported("a"), given])
    assert await store.list_messages(name) == []


async def test_what_has_expired_is_removed_by_later_writes(
    stores: PostgresStores, store: PostgresConversationStore
) -> None:
    """A thousand messages at a time; nobody sees them meanwhile."""
    long, short = f"~{run_name()}", [f"~{run_name()}" for _ in range(4)]
    await store.append(long, [imported("x") for _ in range(1500)])
    for name in short:
        await store.append(name, [imported("x")])
        await store.expire(name, 0.05)
    await store.expire(long, 0.05)
    kept = conversation_name()
    await store.append(kept, [imported("x")])

    async def are_hidden() -> bool:
        return not any([await store.count(name) for name in (*short, long)])

    await eventually(are_hidden)
    assert await store.list_messages(long, limit=5) == []
    for _ in range(6):
        run_id = run_name()
        await store.append(kept, [message(run_id, 0)], writer=Writer(run_id, 1))
    assert rows(stores, "conversation") == 1
    assert rows(stores, "message") == await store.count(kept) == 7


async def test_a_write_to_what_has_expired_begins_anew(
    stores: PostgresStores, store: PostgresConversationStore
) -> None:
    """Old rows that nobody removed yet do not come back."""
    name, run_id = conversation_name(), run_name()
    [old] = await store.append(name, [message(run_id, 0)], writer=Writer(run_id, 9))
    stores.server.execute(
        psycopg.sql.SQL("UPDATE {}.conversation SET expires_at = now()").format(stores.schema)
    )
    claim = await store.claim(name, Writer(run_id, 1), limit=5)
    assert (claim.own, claim.earlier, claim.next_position) == ((), (), 0)
    await store.append(name, [message(run_id, 0, "b")], writer=Writer(run_id, 1))
    assert texts(await store.list_messages(name, after=old)) == ["b"]
    assert rows(stores, "message") == 1


async def test_a_conversation_is_forgotten_after_its_last_message(stores: PostgresStores) -> None:
    """AGENTS_CONVERSATION_TTL_S; each append puts it off."""
    store, name = stores.build(conversation_ttl_s=1.0, time_limit_s=1.0), conversation_name()
    for _ in range(3):
        await store.append(name, [imported("x")])
        [(left,)] = stores.server.execute(
            psycopg.sql.SQL("SELECT expires_at - now() FROM {}.conversation").format(stores.schema)
        )
        assert 0.5 < left.total_seconds() <= 1

    async def is_forgotten() -> bool:
        return await store.list_messages(name) == []

    await eventually(is_forgotten)


async def test_a_conversation_keeps_so_many_messages(stores: PostgresStores) -> None:
    """AGENTS_CONVERSATION_MAX_MESSAGES; no result loses its call, no running run its own."""
    store, name = stores.build(conversation_max_messages=20), conversation_name()
    roles = [Role.USER, Role.ASSISTANT, Role.TOOL, Role.TOOL, Role.ASSISTANT]
    old = [imported(str(n)).model_copy(update={"role": roles[n % 5]}) for n in range(20)]
    await store.append(name, old)
    await store.append(name, [imported("20"), imported("21")])
    stored = await store.list_messages(name)
    # Two too many: the cut would come between a call and its results.
    assert [stored[0].text, await store.count(name), len(stored)] == ["4", 18, 18]
    run_id = run_name()
    await store.append(name, messages(run_id, range(30)), writer=Writer(run_id, 1))
    stored = await store.list_messages(name)
    assert [one.position for one in stored] == list(range(30))
    assert await store.count(name) == 30


async def test_messages_of_thousands_are_read_in_order(store: PostgresConversationStore) -> None:
    """Over more rows than one read takes, from either end."""
    name = conversation_name()
    for start in range(0, 2500, 500):
        await store.append(name, [imported(str(n)) for n in range(start, start + 500)])
    assert texts(await store.list_messages(name)) == [str(n) for n in range(2500)]
    assert texts(await store.list_messages(name, limit=2400)) == [str(n) for n in range(100, 2500)]
    first = (await store.list_messages(name, limit=2500))[0].cursor
    assert texts(await store.list_messages(name, after=first, limit=2000)) == [
        str(n) for n in range(1, 2001)
    ]


async def test_thousands_of_conversations_are_listed(store: PostgresConversationStore) -> None:
    """Each once, over more than one page."""
    names = [f"c{n}" for n in range(1100)]
    await asyncio.gather(*(store.append(name, [imported("x")]) for name in names))
    assert [one async for one in store.conversation_ids()] == sorted(names)


def rows(stores: PostgresStores, table: str) -> int:
    """How many rows a table really has."""
    statement = psycopg.sql.SQL("SELECT count(*) FROM {}.{}")
    names = (stores.schema, psycopg.sql.Identifier(table))
    return int(stores.server.execute(statement.format(*names))[0][0])
