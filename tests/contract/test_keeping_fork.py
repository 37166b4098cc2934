"""Forking, over every backend: whole, pair-safe, apart from the runs of its parent."""

import pytest

from shared.backend import Backend
from shared.conversation.protocol import Writer
from shared.errors import (
    ForkPointError,
    StoreUnavailableError,
)
from shared.keeping.copying import BATCH
from shared.keeping.forking import fork
from shared.keeping.reading import counted
from shared.message import (
    user_draft,
)
from tests.contract.directory_values import directory_of, session
from tests.contract.keeping_stage import ROUND, cut_off, messages_of, placed, play
from tests.contract.values import lease_new


class TestFork:
    """A new conversation that begins as another one did."""

    async def test_a_fork_has_all_messages_up_to_one(self, backend: Backend) -> None:
        """As they are, with their ids and runs; the parent keeps all of its own."""
        directory = directory_of(backend)
        parent = await directory.open(session(), title="Tea")
        run = [await play(backend, parent) for _ in range(3)][-1]
        whole = await messages_of(backend.conversations, parent.id)
        forked = await fork(backend, parent.id, whole[9].id)
        assert (forked.id, forked.active, forked.title) == (f"{parent.id}:2", True, "Tea")
        assert forked.parent is not None
        assert (forked.parent.conversation_id, forked.parent.message_id) == (parent.id, whole[9].id)
        assert await messages_of(backend.conversations, forked.id) == whole[:10]
        assert await messages_of(backend.conversations, parent.id) == whole
        assert (await directory.get(parent.id)).active
        assert (await directory.open(parent.session_id)).id == forked.id
        assert (await backend.ledger.get(run.id)).conversation_id == parent.id
        assert (forked.runs, forked.cost) == (0, "0"), "what the parent took is the parent's"

    async def test_long_conversations_are_forked_whole(self, backend: Backend) -> None:
        """In several appends, in their order."""
        parent = await directory_of(backend).open(session())
        drafts = [user_draft(str(number)) for number in range(2 * BATCH + 1)]
        await play(backend, parent, drafts)
        whole = await messages_of(backend.conversations, parent.id)
        forked = await fork(backend, parent.id, whole[-1].id)
        assert await messages_of(backend.conversations, forked.id) == whole

    @pytest.mark.parametrize(
        ("place", "advice"),
        [(1, "behind the last result"), (2, "before the calls"), (3, None), (0, None), (4, None)],
    )
    async def test_calls_are_not_parted_from_their_results(
        self, backend: Backend, place: int, advice: str | None
    ) -> None:
        """Between them it is refused, and the error names the messages at which it is not."""
        parent = await directory_of(backend).open(session())
        await play(backend, parent)
        whole = await messages_of(backend.conversations, parent.id)
        if advice is None:
            forked = await fork(backend, parent.id, whole[place].id)
            assert (await counted(backend, [forked]))[0].message_count == place + 1
            return
        with pytest.raises(ForkPointError, match=advice) as refused:
            await fork(backend, parent.id, whole[place].id)
        assert whole[0].id in str(refused.value)
        assert whole[3].id in str(refused.value)
        assert (await directory_of(backend).open(parent.session_id)).id == parent.id

    async def test_a_run_goes_on_in_the_conversation_that_it_is_in(self, backend: Backend) -> None:
        """A copy of its messages elsewhere is none of its own, and a run there is another one."""
        parent = await directory_of(backend).open(session())
        lease = await lease_new(backend.ledger, parent.id)
        writer = Writer(lease.run.id, lease.fencing_token)
        store = backend.conversations
        await store.claim(parent.id, writer, limit=0)
        drafts = placed(lease.run.id, ROUND)
        await store.append(parent.id, drafts[:1], writer=writer)
        forked = await fork(backend, parent.id, drafts[0].id)
        other = await play(backend, forked)
        await store.append(parent.id, drafts[1:], writer=writer)
        again = await store.claim(parent.id, writer, limit=5)
        assert [message.position for message in again.own] == list(range(5))
        assert await store.retract(parent.id, writer) == 5
        kept = await messages_of(store, forked.id)
        assert [message.run_id for message in kept] == [lease.run.id, *[other.id] * 5]

    async def test_a_fork_can_go_into_another_session(self, backend: Backend) -> None:
        """A conversation that is not managed, too, as long as the session is named."""
        plain = "plain"
        await backend.conversations.append(plain, placed("run-0-" + "0" * 32, ROUND))
        whole = await messages_of(backend.conversations, plain)
        eve = session()
        forked = await fork(backend, plain, whole[-1].id, into=eve)
        assert (forked.id, forked.user) == (str(eve), eve.name)
        assert (await directory_of(backend).open(eve)).id == forked.id

    async def test_a_message_that_is_not_there_forks_nothing(self, backend: Backend) -> None:
        parent = await directory_of(backend).open(session())
        with pytest.raises(ForkPointError, match="holds no message"):
            await fork(backend, parent.id, "nobody.0")
        assert await directory_of(backend).list_unfinished() == []

    @pytest.mark.parametrize("is_done", [True, False])
    @pytest.mark.parametrize(
        ("part", "call"),
        [("directory", "reserve"), ("conversations", "append"), ("directory", "activate")],
    )
    async def test_half_a_fork_is_seen_by_nobody(
        self, backend: Backend, part: str, call: str, is_done: bool
    ) -> None:
        """Cut off anywhere, the session has its conversation, whole, or its fork, whole."""
        directory = directory_of(backend)
        parent = await directory.open(session())
        await play(backend, parent)
        whole = await messages_of(backend.conversations, parent.id)
        with pytest.raises(StoreUnavailableError):
            await fork(cut_off(backend, part, call, is_done=is_done), parent.id, whole[-1].id)
        current = await directory.open(parent.session_id)
        assert await messages_of(backend.conversations, current.id) == whole
