"""Purging, over every backend: nothing is left, though it was cut off between two steps."""

import json
from typing import Any

import pytest

from shared.backend import Backend
from shared.conversation.protocol import DELETED_FENCE_S
from shared.directory.record import RecordFilter
from shared.errors import (
    ConversationBusyError,
    ConversationInactiveError,
    StoreUnavailableError,
    UnknownConversationError,
    UnknownRunError,
)
from shared.event import DeltaEvent
from shared.keeping.archiving import archive
from shared.keeping.forking import fork
from shared.keeping.purging import purge, purge_user
from shared.keeping.reading import read_history
from shared.keeping.tidying import tidy
from shared.message import (
    Draft,
    Role,
    user_draft,
)
from shared.run import Ending, RunStatus
from tests.contract.directory_values import directory_of, session
from tests.contract.harness import Harness, RedisHarness
from tests.contract.keeping_stage import ROUND, cut_off, placed, play, with_attic
from tests.contract.values import COMPLETED, lease_new, new_run


@pytest.fixture
def attic(backend: Backend) -> Backend:
    """The backend with an archive."""
    return with_attic(backend)


class TestPurge:
    """True deletion."""

    async def test_nothing_of_a_purged_conversation_is_left(
        self, harness: Harness, attic: Backend
    ) -> None:
        """Neither text nor names, in any key or value; only a fence, for an hour, has the id."""
        marker = "marker0user"
        directory = directory_of(attic)
        ada = session(user=marker)
        runs = []
        for number in range(3):
            record = await directory.open(ada, title=f"{marker} title", metadata={"a": marker})
            run = await play(
                attic,
                record,
                [user_draft(f"{marker} text"), Draft(role=Role.ASSISTANT, content=marker)],
                input=marker,
                metadata={"a": marker},
                idempotency_key=f"{marker}-{number}",
            )
            lease = await lease_new(attic.ledger, record.id)
            await attic.ledger.publish(
                lease, [DeltaEvent(run_id=lease.run.id, text=marker, position=1, attempt=1)]
            )
            await attic.ledger.finish(lease, Ending(status=RunStatus.COMPLETED, output=marker))
            await directory.deactivate(record.id)
            runs.append(run.id)
        await archive(attic, f"{ada}:3")
        whole = await read_history(attic, str(ada))
        await fork(attic, str(ada), whole[0].id)
        other = await directory.open(session())
        await play(attic, other)
        assert {each.messages for each in await purge_user(attic, marker)} == {1, 2}
        with pytest.raises(UnknownRunError):
            await attic.ledger.get(runs[0])
        assert (await directory.list_records(RecordFilter(user=marker))).records == ()
        assert await attic.conversations.count(other.id) == len(ROUND)
        assert (await directory.get(other.id)).runs == 1
        if isinstance(harness, RedisHarness):
            await self._check_no_trace(harness, marker)
        fresh = await directory.open(ada)
        assert (fresh.id, fresh.title, fresh.runs) == (str(ada), None, 0)
        assert await read_history(attic, fresh.id) == []

    async def _check_no_trace(self, harness: RedisHarness, marker: str) -> None:
        async with harness._connect() as client:
            keys = [key async for key in client.scan_iter(match=f"*{harness.key_prefix}*")]
            fences = [key for key in keys if marker.encode() in key]
            assert all(b":history:" in key for key in fences), fences
            for key in fences:
                assert set(await client.hkeys(key)) <= {b"token", b"retracted", b"deleted"}
                assert 0 < await client.ttl(key) <= DELETED_FENCE_S
            for key in set(keys) - set(fences):
                assert marker not in json.dumps(await contents(client, key)), key

    async def test_a_conversation_with_a_run_is_not_purged(self, backend: Backend) -> None:
        """Nothing is deleted; those of the user that can be purged are."""
        directory = directory_of(backend)
        user = session().name
        held, free = [await directory.open(session(user=user)) for _ in range(2)]
        await play(backend, held)
        await play(backend, free)
        lease = await lease_new(backend.ledger, held.id)
        with pytest.raises(ConversationBusyError) as refused:
            await purge(backend, held.id)
        assert refused.value.run_id == lease.run.id
        with pytest.raises(ConversationBusyError):
            await purge_user(backend, user)
        assert await backend.conversations.count(held.id) == len(ROUND)
        assert (await directory.get(held.id)).active
        with pytest.raises(UnknownConversationError):
            await directory.get(free.id)
        await backend.ledger.finish(lease, COMPLETED)
        assert (await purge(backend, held.id)).runs == 2

    async def test_a_conversation_without_a_record_can_be_purged(self, backend: Backend) -> None:
        """And what is not there, as often as one likes."""
        await backend.ledger.finish(await lease_new(backend.ledger, "plain"), COMPLETED)
        await backend.conversations.append("plain", placed("run-0-" + "0" * 32, ROUND))
        purged = await purge(backend, "plain")
        assert (purged.messages, purged.runs) == (len(ROUND), 1)
        again = await purge(backend, "plain")
        assert (again.messages, again.runs) == (0, 0)

    @pytest.mark.parametrize("is_done", [True, False])
    @pytest.mark.parametrize(
        ("part", "call"),
        [
            ("directory", "begin"),
            ("ledger", "remove_runs"),
            ("conversations", "delete"),
            ("archive", "delete"),
            ("directory", "forget"),
        ],
    )
    async def test_a_purge_that_is_cut_off_is_completed(
        self, attic: Backend, part: str, call: str, is_done: bool
    ) -> None:
        """By the next one to tidy; until then the conversation takes no runs."""
        directory = directory_of(attic)
        record = await directory.open(session())
        run = await play(attic, record)
        with pytest.raises(StoreUnavailableError):
            await purge(cut_off(attic, part, call, is_done=is_done), record.id)
        if (part, call, is_done) == ("directory", "begin", False):
            assert (await directory.get(record.id)).active
            await purge(attic, record.id)
        elif (part, call, is_done) != ("directory", "forget", True):
            with pytest.raises(ConversationInactiveError):
                await attic.ledger.submit(new_run(record.id))
            assert (await tidy(attic)).completed == [record.id]
        with pytest.raises(UnknownConversationError):
            await directory.get(record.id)
        with pytest.raises(UnknownRunError):
            await attic.ledger.get(run.id)
        assert await read_history(attic, record.id) == []
        assert await directory.list_unfinished() == []


async def contents(client: Any, key: bytes) -> Any:
    """All that a key holds, as text."""
    kind = await client.type(key)
    readers = {
        b"string": lambda: client.get(key),
        b"hash": lambda: client.hgetall(key),
        b"set": lambda: client.smembers(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"stream": lambda: client.xrange(key),
    }
    return repr(await readers[kind]())
