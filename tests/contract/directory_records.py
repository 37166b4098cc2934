"""What every directory of conversations guarantees about one record."""

import asyncio
from decimal import Decimal

import pytest

from shared.backend import Backend
from shared.directory.protocol import ConversationDirectory
from shared.directory.record import Parent, RecordFilter, Work
from shared.directory.session import ConversationId, Mode, SessionId
from shared.errors import (
    ConversationBusyError,
    ConversationInactiveError,
    RequestError,
    UnknownConversationError,
)
from shared.message import Usage
from shared.run import Ending, RunStatus
from shared.spending import Spending
from tests.contract.directory_values import directory_of, session
from tests.contract.harness import Harness
from tests.contract.values import AGENT, COMPLETED, lease_new, new_run, next_millisecond, take

TOOK = Usage(input_tokens=10, output_tokens=3, requests=1)
PAID = Ending(
    status=RunStatus.COMPLETED,
    usage=TOOK,
    spending=Spending(cost=Decimal("0.000012"), known_cost=Decimal("0.000012")),
)


class OpeningContract:
    """Sessions and their generations."""

    @pytest.fixture
    def directory(self, backend: Backend) -> ConversationDirectory:
        return directory_of(backend)

    async def test_a_session_that_is_opened_has_a_record(
        self, directory: ConversationDirectory
    ) -> None:
        """It says what the id and the opener say; a second opener changes nothing."""
        ada = session()
        record = await directory.open(ada, title="Tea", metadata={"n": [1, None]})
        assert record.id == str(ada)
        assert (record.user, record.agent, record.channel) == (ada.name, AGENT, ada.channel)
        assert (record.mode, record.generation, record.active) == (Mode.PER_USER, 1, True)
        assert (record.title, record.metadata) == ("Tea", {"n": [1, None]})
        assert (record.runs, record.usage, record.cost) == (0, Usage(), "0")
        assert (record.archived, record.work, record.parent) == (None, None, None)
        assert record.created_at == record.last_activity_at
        assert await directory.open(ada, title="Coffee") == record
        assert await directory.get(record.id) == record

    async def test_all_who_open_a_session_at_once_get_one_conversation(
        self, backend: Backend, elsewhere: Backend
    ) -> None:
        """Twenty of them, in two processes, a first time and after it was closed."""
        places = [directory_of(backend), directory_of(elsewhere)] * 10
        ada = session()
        for generation in (1, 2, 3):
            opened = await asyncio.gather(*(place.open(ada) for place in places))
            assert {record.id for record in opened} == {str(ConversationId(ada, generation))}
            await places[0].deactivate(opened[0].id)

    async def test_modes_are_sessions_of_their_own(self, directory: ConversationDirectory) -> None:
        """A trigger may have a user, a shared session has none."""
        ada = session()
        shared = SessionId.of_all(ada.channel, AGENT)
        trigger = SessionId.of_trigger(ada.channel, ada.name, AGENT)
        opened = [await directory.open(each, user="eve") for each in (ada, trigger)]
        assert [record.user for record in opened] == [ada.name, "eve"]
        assert (await directory.open(shared)).user is None
        found = await directory.list_records(RecordFilter(channel=ada.channel))
        assert {record.id for record in found.records} == {str(ada), str(shared), str(trigger)}

    async def test_a_closed_conversation_takes_no_runs_and_stays_readable(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """The next input begins another one. A run that was accepted before is executed."""
        ada = session()
        first = await directory.open(ada)
        lease = await lease_new(backend.ledger, first.id)
        closed = await directory.deactivate(first.id)
        assert not closed.active
        with pytest.raises(ConversationInactiveError, match="open its session again"):
            await backend.ledger.submit(new_run(first.id))
        await backend.ledger.finish(lease, COMPLETED)
        assert await directory.deactivate(first.id) == await directory.get(first.id)
        assert (await directory.get(first.id)).deactivated_at == closed.deactivated_at
        assert (await directory.get(first.id)).runs == 1
        second = await directory.open(ada)
        assert second.id == f"{ada}:2"
        assert (await backend.ledger.submit(new_run(second.id))).is_new
        listed = await directory.list_records(RecordFilter(user=ada.name))
        assert {record.id for record in listed.records} == {first.id, second.id}

    async def test_a_known_key_is_answered_though_the_conversation_is_closed(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """Whoever lost the answer to a submit gets the run of then."""
        record = await directory.open(session())
        run = (await backend.ledger.submit(new_run(record.id, idempotency_key="k"))).run
        await directory.deactivate(record.id)
        again = await backend.ledger.submit(new_run(record.id, idempotency_key="k"))
        assert again.run.id == run.id

    async def test_an_idle_conversation_is_closed_when_it_is_opened(
        self, directory: ConversationDirectory
    ) -> None:
        """After the time that the opener names, by the store's clock; opening is no activity."""
        ada = session()
        first = await directory.open(ada)
        assert (await directory.open(ada, idle_s=3600)).id == first.id
        await next_millisecond()
        assert (await directory.open(ada, idle_s=0.001)).id == f"{ada}:2"
        assert not (await directory.get(first.id)).active

    async def test_a_conversation_with_a_run_is_not_idle(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """However long it takes. Its end is activity, from which the time counts anew."""
        ada = session()
        record = await directory.open(ada)
        lease = await lease_new(backend.ledger, record.id)
        await next_millisecond()
        assert (await directory.open(ada, idle_s=0.001)).id == record.id
        assert not await directory.expire(record.id, 0.001)
        with pytest.raises(ConversationBusyError) as refused:
            await directory.begin(record.id, Work.PURGE)
        assert refused.value.run_id == lease.run.id
        await backend.ledger.finish(lease, COMPLETED)
        assert not await directory.expire(record.id, 3600)
        await next_millisecond()
        assert await directory.expire(record.id, 0.001)
        assert not await directory.expire(record.id, 0.001), "it is closed already"

    async def test_the_last_one_to_update_wins(self, directory: ConversationDirectory) -> None:
        """Title and metadata each; what is not named stays."""
        record = await directory.open(session(), title="a", metadata={"x": 1})
        await asyncio.gather(
            directory.update(record.id, title="b"), directory.update(record.id, metadata={"y": 2})
        )
        updated = await directory.get(record.id)
        assert (updated.title, updated.metadata) == ("b", {"y": 2})
        assert updated.last_activity_at == record.last_activity_at
        assert (await directory.update(record.id, title="")).title is None

    async def test_what_has_no_record_is_unknown(self, directory: ConversationDirectory) -> None:
        """Each verb says so, but for the one that makes nothing of it."""
        name = str(session())
        for attempt in (
            directory.get(name),
            directory.update(name, title="x"),
            directory.deactivate(name),
            directory.expire(name, 1),
            directory.begin(name, Work.PURGE),
            directory.end_archiving(name, "attic"),
            directory.activate(name),
        ):
            with pytest.raises(UnknownConversationError):
                await attempt
        await directory.forget(name)
        assert await directory.list_records(RecordFilter(user=name)) is not None


class TotalsContract:
    """What runs add to the record of their conversation, in the step that ends them."""

    @pytest.fixture
    def directory(self, backend: Backend) -> ConversationDirectory:
        return directory_of(backend)

    async def test_a_run_counts_once_when_it_ends(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """However often it is finished; at once, for every reader."""
        record = await directory.open(session())
        lease = await lease_new(backend.ledger, record.id)
        assert (await directory.get(record.id)).runs == 0
        for _ in range(3):
            await backend.ledger.finish(lease, PAID)
        counted = await directory.get(record.id)
        assert (counted.runs, counted.usage, counted.cost) == (1, TOOK, "0.000012")
        await backend.ledger.finish(await lease_new(backend.ledger, record.id), PAID)
        counted = await directory.get(record.id)
        assert (counted.runs, counted.usage, counted.cost) == (2, TOOK + TOOK, "0.000024")

    async def test_large_totals_are_exact(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """Amounts of money with twelve digits behind the point, numbers beyond a double's."""
        record = await directory.open(session())
        cost = Decimal("90071.992547409931")
        ending = PAID.model_copy(
            update={
                "usage": Usage(input_tokens=2**53 + 1),
                "spending": Spending(cost=cost, known_cost=cost),
            }
        )
        for _ in range(2):
            await backend.ledger.finish(await lease_new(backend.ledger, record.id), ending)
        counted = await directory.get(record.id)
        assert counted.usage.input_tokens == 2**54 + 2
        assert counted.known_cost == 2 * cost

    async def test_an_unknown_cost_is_not_nothing(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """One run of which the cost is unknown makes the total unknown; what is known is told."""
        record = await directory.open(session())
        unknown = PAID.model_copy(
            update={"spending": Spending(known_cost=Decimal("0.5"), unpriced=("unknown_model",))}
        )
        for ending in (PAID, unknown):
            await backend.ledger.finish(await lease_new(backend.ledger, record.id), ending)
        counted = await directory.get(record.id)
        assert (counted.cost, counted.unpriced_runs) == (None, 1)
        assert counted.known_cost == Decimal("0.500012")

    async def test_runs_that_never_started_count_and_cost_nothing(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """Cancelled while they waited, by hand or by one that interrupts."""
        record = await directory.open(session())
        ledger = backend.ledger
        lease = await lease_new(ledger, record.id)
        waiting = (await ledger.submit(new_run(record.id))).run
        await ledger.cancel(waiting.id)
        await ledger.submit(new_run(record.id, on_busy="interrupt"))
        await ledger.submit(new_run(record.id, on_busy="interrupt"))
        assert (await directory.get(record.id)).runs == 2
        await ledger.finish(lease, PAID)
        counted = await directory.get(record.id)
        assert (counted.runs, counted.cost) == (3, "0.000012")

    async def test_submits_and_ends_are_activity(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """In the record, and in the order of lists."""
        quiet, busy = [await directory.open(session("same")) for _ in range(2)]
        seen = [busy.last_activity_at]
        await next_millisecond()
        run = (await backend.ledger.submit(new_run(busy.id))).run
        seen.append((await directory.get(busy.id)).last_activity_at)
        lease = await take(backend.ledger, run.id)
        await next_millisecond()
        await backend.ledger.finish(lease, COMPLETED)
        seen.append((await directory.get(busy.id)).last_activity_at)
        assert seen == sorted(set(seen))
        listed = await directory.list_records(RecordFilter(channel="same"))
        assert [record.id for record in listed.records] == [busy.id, quiet.id]

    async def test_conversations_without_a_record_stay_without(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """Plain ids, and such as look managed; nothing of them is listed."""
        name = str(session())
        for conversation_id in (name, "plain", None):
            await backend.ledger.finish(await lease_new(backend.ledger, conversation_id), PAID)
        assert (await directory.list_records()).records == ()
        record = await directory.open(SessionId.parse(name))
        assert record.runs == 0, "a record counts from its beginning on"


class WorkContract:
    """Forking, archiving and purging, as far as records know of them."""

    @pytest.fixture
    def directory(self, backend: Backend) -> ConversationDirectory:
        return directory_of(backend)

    async def test_a_fork_is_seen_when_it_is_complete(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """Until then the session goes on with the conversation that it has."""
        ada = session()
        source = await directory.open(ada, title="Tea", metadata={"a": 1})
        parent = Parent(conversation_id=source.id, message_id="m.1")
        fork = await directory.reserve(ada, parent, source)
        assert (fork.id, fork.active, fork.work) == (f"{ada}:2", False, Work.FORK)
        assert (fork.title, fork.metadata, fork.parent) == ("Tea", {"a": 1}, parent)
        assert (await directory.open(ada)).id == source.id
        with pytest.raises(ConversationInactiveError):
            await backend.ledger.submit(new_run(fork.id))
        assert [each.id for each in await directory.list_unfinished()] == [fork.id]
        opened = await directory.activate(fork.id)
        assert (opened.active, opened.work) == (True, None)
        assert await directory.activate(fork.id) == opened
        assert await directory.list_unfinished() == []
        assert (await directory.open(ada)).id == fork.id
        assert (await directory.get(source.id)).active

    async def test_a_fork_does_not_take_a_session_back(
        self, directory: ConversationDirectory
    ) -> None:
        """What was begun after it is newer."""
        ada = session()
        source = await directory.open(ada)
        fork = await directory.reserve(ada, Parent(conversation_id=source.id, message_id="m"))
        await directory.deactivate(source.id)
        newer = await directory.open(ada)
        await directory.activate(fork.id)
        assert newer.id == f"{ada}:3"
        assert (await directory.open(ada)).id == newer.id

    async def test_one_work_at_a_time_and_a_purge_takes_over(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """Work closes the conversation, may be begun again, and is listed until it is done."""
        first, second = [await directory.open(session()) for _ in range(2)]
        begun = await directory.begin(first.id, Work.ARCHIVE)
        assert (begun.active, begun.work) == (False, Work.ARCHIVE)
        assert await directory.begin(first.id, Work.ARCHIVE) == begun
        await directory.begin(second.id, Work.PURGE)
        with pytest.raises(RequestError):
            await directory.begin(second.id, Work.ARCHIVE)
        unfinished = {each.id for each in await directory.list_unfinished()}
        assert unfinished == {first.id, second.id}
        done = await directory.end_archiving(first.id, "attic")
        assert (done.archived, done.work, done.active) == ("attic", None, False)
        assert await directory.end_archiving(first.id, "attic") == done
        with pytest.raises(RequestError):
            await directory.end_archiving(second.id, "attic")
        assert (await directory.begin(first.id, Work.PURGE)).work is Work.PURGE

    async def test_work_that_asks_for_quiet_is_refused_after_activity(
        self, directory: ConversationDirectory
    ) -> None:
        """So that what was used a moment ago is not purged for being old."""
        record = await directory.open(session())
        with pytest.raises(ConversationBusyError):
            await directory.begin(record.id, Work.PURGE, idle_s=3600)
        assert (await directory.get(record.id)) == record
        await next_millisecond()
        await directory.begin(record.id, Work.PURGE, idle_s=0.001)

    async def test_what_is_forgotten_is_gone_and_its_number_not_used_again(
        self, directory: ConversationDirectory
    ) -> None:
        """As long as the session has another conversation. With the last one it begins anew."""
        ada = session()
        first = await directory.open(ada)
        await directory.deactivate(first.id)
        second = await directory.open(ada)
        for _ in range(2):
            await directory.forget(second.id)
            with pytest.raises(UnknownConversationError):
                await directory.get(second.id)
        assert (await directory.open(ada)).id == f"{ada}:3"
        for generation in (3, 1):
            await directory.forget(str(ConversationId(ada, generation)))
        found = await directory.list_records(RecordFilter(user=ada.name))
        assert found.records == ()
        assert (await directory.open(ada)).id == str(ada)

    async def test_a_run_that_ends_after_its_record_is_gone_counts_nowhere(
        self, backend: Backend, directory: ConversationDirectory
    ) -> None:
        """It ends like any other."""
        record = await directory.open(session())
        lease = await lease_new(backend.ledger, record.id)
        await directory.forget(record.id)
        await backend.ledger.finish(lease, PAID)
        assert (await backend.ledger.get(lease.run.id)).status is RunStatus.COMPLETED
        assert (await directory.list_records()).records == ()

    async def test_settings_of_the_backend_do_not_matter(self, harness: Harness) -> None:
        """Each backend of the same store comes with a directory."""
        assert harness.open().directory is not None
