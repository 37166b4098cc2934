"""Tidying, and counting, over every backend."""

import pytest

from shared.backend import Backend
from shared.conversation.protocol import Writer
from shared.directory.session import SessionId
from shared.errors import (
    UnknownConversationError,
)
from shared.keeping.reading import counted
from shared.keeping.tidying import tidy
from shared.retention import RetentionRule
from tests.contract.directory_values import directory_of, session
from tests.contract.keeping_stage import ROUND, placed, play, with_attic
from tests.contract.values import COMPLETED, lease_new, next_millisecond

SHORT = 1e-9
"""Days; less than a millisecond."""


@pytest.fixture
def attic(backend: Backend) -> Backend:
    """The backend with an archive."""
    return with_attic(backend)


class TestTidy:
    """What has to be done because time has passed."""

    async def test_idle_conversations_are_closed(self, backend: Backend) -> None:
        """Not those in which a run has not ended."""
        directory = directory_of(backend)
        idle, busy = [await directory.open(session()) for _ in range(2)]
        await lease_new(backend.ledger, busy.id)
        await next_millisecond()
        assert (await tidy(backend, idle_s=3600)).expired == []
        assert (await tidy(backend, idle_s=0.001)).expired == [idle.id]
        assert not await tidy(backend, idle_s=0.001)
        assert (await directory.get(busy.id)).active
        assert not (await directory.get(idle.id)).active

    async def test_rules_of_retention_apply_to_what_they_name(self, attic: Backend) -> None:
        """By channel and agent, each after its own time; twice changes nothing more."""
        directory = directory_of(attic)
        kept = await directory.open(session("keep"))
        archived = await directory.open(session("attic"))
        purged = await directory.open(session("bin"))
        for record in (kept, archived, purged):
            await play(attic, record)
        await next_millisecond()
        rules = [
            RetentionRule(action="purge", after_days=1),
            RetentionRule(action="archive", after_days=SHORT, channel="attic"),
            RetentionRule(action="purge", after_days=SHORT, channel="bin", agent="clerk"),
            RetentionRule(action="purge", after_days=SHORT, channel="keep", agent="nobody"),
        ]
        done = await tidy(attic, retention=rules)
        assert (done.archived, done.purged) == ([archived.id], [purged.id])
        assert not await tidy(attic, retention=rules)
        assert (await directory.get(archived.id)).archived == "attic"
        assert (await directory.get(kept.id)).active
        with pytest.raises(UnknownConversationError):
            await directory.get(purged.id)

    async def test_retention_waits_for_runs(self, backend: Backend) -> None:
        """However old the conversation is."""
        record = await directory_of(backend).open(session())
        lease = await lease_new(backend.ledger, record.id)
        rule = RetentionRule(action="purge", after_days=SHORT)
        await next_millisecond()
        assert not await tidy(backend, retention=[rule])
        await backend.ledger.finish(lease, COMPLETED)
        await next_millisecond()
        assert (await tidy(backend, retention=[rule])).purged == [record.id]

    async def test_the_number_of_messages_is_that_of_the_store(self, backend: Backend) -> None:
        """After rollbacks, clears and removals, too."""
        directory = directory_of(backend)
        record = await directory.open(SessionId.of_all("web", "clerk"))

        async def count() -> int:
            [found] = await counted(backend, [await directory.get(record.id)])
            return found.message_count

        assert await count() == 0
        await play(backend, record)
        assert await count() == 5
        lease = await lease_new(backend.ledger, record.id)
        writer = Writer(lease.run.id, lease.fencing_token)
        await backend.conversations.append(
            record.id, placed(lease.run.id, ROUND[:2]), writer=writer
        )
        assert await count() == 7
        await backend.conversations.retract(record.id, writer)
        assert await count() == 5
        await backend.ledger.finish(lease, COMPLETED)
        [first] = await backend.conversations.list_messages(record.id, limit=1)
        await backend.conversations.remove(record.id, first.cursor or "")
        assert await count() == 4
        await backend.conversations.clear(record.id)
        assert await count() == 0
