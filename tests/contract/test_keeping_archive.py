"""Archiving, over every backend; cut off between any two of its steps, and completed."""

import pytest

from shared.backend import Backend
from shared.directory.record import Work
from shared.errors import (
    ConfigurationError,
    ConversationBusyError,
    CorruptEntryError,
    StoreUnavailableError,
)
from shared.keeping.archiving import archive
from shared.keeping.forking import fork
from shared.keeping.purging import purge
from shared.keeping.reading import counted, read_history
from shared.keeping.tidying import tidy
from shared.run import RunStatus
from tests.contract.directory_values import directory_of, session
from tests.contract.harness import Harness
from tests.contract.keeping_stage import cut_off, messages_of, play, with_attic
from tests.contract.values import lease_new


@pytest.fixture
def attic(backend: Backend) -> Backend:
    """The backend with an archive."""
    return with_attic(backend)


class TestArchive:
    """Moving messages to another store."""

    async def test_an_archived_conversation_is_read_as_before(self, attic: Backend) -> None:
        """Its messages are there and no longer here; record and runs stay."""
        directory = directory_of(attic)
        record = await directory.open(session())
        run = await play(attic, record)
        whole = await messages_of(attic.conversations, record.id)
        archived = await archive(attic, record.id)
        assert (archived.archived, archived.work, archived.active) == ("attic", None, False)
        assert await attic.conversations.count(record.id) == 0
        read = await read_history(attic, record.id)
        assert [message.model_copy(update={"cursor": None}) for message in read] == whole
        last = await read_history(attic, record.id, limit=1)
        assert last[0].text == "done"
        assert (await counted(attic, [archived]))[0].message_count == len(whole)
        assert (await attic.ledger.get(run.id)).status is RunStatus.COMPLETED
        assert await archive(attic, record.id) == archived
        forked = await fork(attic, record.id, whole[3].id)
        assert await messages_of(attic.conversations, forked.id) == whole[:4]

    async def test_a_conversation_with_a_run_is_not_archived(self, attic: Backend) -> None:
        """Nothing changes."""
        record = await directory_of(attic).open(session())
        lease = await lease_new(attic.ledger, record.id)
        with pytest.raises(ConversationBusyError) as refused:
            await archive(attic, record.id)
        assert refused.value.run_id == lease.run.id
        assert (await directory_of(attic).get(record.id)).active

    async def test_without_the_archive_an_error_says_so(
        self, backend: Backend, attic: Backend
    ) -> None:
        """To archive, and to read what another process has archived; no empty history instead."""
        record = await directory_of(backend).open(session())
        await play(backend, record)
        with pytest.raises(ConfigurationError, match="AGENTS_ARCHIVE_URL"):
            await archive(backend, record.id)
        await archive(attic, record.id)
        with pytest.raises(ConfigurationError, match="attic"):
            await read_history(backend, record.id)
        with pytest.raises(ConfigurationError, match="attic"):
            await purge(backend, record.id)
        assert await read_history(backend, "plain") == []

    async def test_what_cannot_be_read_stays_here(self, harness: Harness, attic: Backend) -> None:
        """A copy would lack it without anybody noticing."""
        record = await directory_of(attic).open(session())
        await play(attic, record)
        await harness.damage(attic, record.id)
        with pytest.raises(CorruptEntryError, match="1 of 6"):
            await archive(attic, record.id)
        assert await attic.conversations.count(record.id) == 6
        done = await tidy(attic)
        assert done.failed == [record.id]

    @pytest.mark.parametrize("is_done", [True, False])
    @pytest.mark.parametrize(
        ("part", "call"),
        [
            ("directory", "begin"),
            ("archive", "append"),
            ("archive", "list_messages"),
            ("conversations", "delete"),
            ("directory", "end_archiving"),
        ],
    )
    async def test_an_archiving_that_is_cut_off_is_completed(
        self, attic: Backend, part: str, call: str, is_done: bool
    ) -> None:
        """Wherever that was; at any time the history can be read, whole."""
        record = await directory_of(attic).open(session())
        await play(attic, record)
        whole = await messages_of(attic.conversations, record.id)
        with pytest.raises(StoreUnavailableError):
            await archive(cut_off(attic, part, call, is_done=is_done), record.id)
        read = await read_history(attic, record.id)
        assert [message.model_copy(update={"cursor": None}) for message in read] == whole
        if (await directory_of(attic).get(record.id)).work is Work.ARCHIVE:
            assert (await tidy(attic)).completed == [record.id]
        else:
            await archive(attic, record.id)
        assert (await directory_of(attic).get(record.id)).archived == "attic"
        assert await attic.conversations.count(record.id) == 0
        assert attic.archive is not None
        assert await messages_of(attic.archive.conversations, record.id) == whole
