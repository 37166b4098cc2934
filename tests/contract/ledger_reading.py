"""What every run ledger guarantees about looking: lists, events, hints."""

from itertools import pairwise

import pytest

from shared.backend import Backend
from shared.errors import InvalidCursorError, UnknownRunError, UnstorableError
from shared.event import DeltaEvent, StatusEvent
from shared.ledger.protocol import RunLedger
from shared.run import Ending, Run, RunStatus
from shared.testing.conversation.value import conversation_name, nested, run_name
from tests.contract.values import (
    AGENT,
    CANCELLED,
    COMPLETED,
    lease_new,
    new_run,
    next_millisecond,
    take,
)


def delta(run_id: str, text: str) -> DeltaEvent:
    """A piece of an answer."""
    return DeltaEvent(run_id=run_id, text=text, position=1, attempt=1)


def names(runs: list[Run]) -> list[str]:
    """The ids of runs."""
    return [run.id for run in runs]


class ListingContract:
    """`list_runs` and `list_conversations`."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_runs_are_listed_newest_first(self, ledger: RunLedger) -> None:
        """In the order of their submits, whatever conversation and partition they lie in."""
        submitted = [await self._submit(ledger, conversation_name()) for _ in range(6)]
        assert names(await ledger.list_runs()) == submitted[::-1]
        assert names(await ledger.list_runs(limit=2)) == submitted[:-3:-1]
        assert await ledger.list_runs(limit=0) == []

    async def test_pages_follow_each_other(self, ledger: RunLedger) -> None:
        """The last id of a page leads to the next one; no run is missing or there twice."""
        name = conversation_name()
        submitted = [(await ledger.submit(new_run(name))).run.id for _ in range(7)]
        for conversation_id in (None, name):
            listed: list[str] = []
            while page := await ledger.list_runs(
                conversation_id=conversation_id, limit=3, before=listed[-1] if listed else None
            ):
                listed += names(page)
            assert sorted(listed) == sorted(submitted)

    async def test_filters_go_together(self, ledger: RunLedger) -> None:
        """Conversation, status and agent each leave runs out, and the limit counts the rest."""
        name, other = conversation_name(), conversation_name()
        done = await lease_new(ledger, name)
        await ledger.finish(done, COMPLETED)
        await next_millisecond()
        running = await lease_new(ledger, name)
        await next_millisecond()
        queued = await self._submit(ledger, name, agent="painter")
        far = await self._submit(ledger, other, agent="painter")
        listing = ledger.list_runs
        mine = [queued, running.run.id, done.run.id]
        assert names(await listing(conversation_id=name)) == mine
        assert names(await listing(conversation_id=name, limit=1)) == [queued]
        assert names(await listing(conversation_id=name, before=queued)) == mine[1:]
        assert names(await listing(status=[RunStatus.QUEUED])) == [far, queued]
        assert names(await listing(status=[RunStatus.RUNNING, RunStatus.COMPLETED])) == mine[1:]
        assert names(await listing(agent=AGENT, limit=1)) == [running.run.id]
        assert names(await listing(agent="painter", conversation_id=other)) == [far]
        both = await listing(conversation_id=name, status=[RunStatus.QUEUED], agent="painter")
        assert names(both) == [queued]
        assert await listing(agent="nobody") == []
        assert await listing(status=[]) == []
        assert await listing(conversation_id=conversation_name()) == []

    async def test_a_listed_run_is_the_whole_run(self, ledger: RunLedger) -> None:
        """What a list holds is what `get` reads."""
        lease = await lease_new(ledger)
        await ledger.finish(lease, COMPLETED)
        assert await ledger.list_runs() == [await ledger.get(lease.run.id)]

    async def test_a_page_begins_at_a_known_run(self, ledger: RunLedger) -> None:
        """A run that is not there gives no page."""
        with pytest.raises(UnknownRunError):
            await ledger.list_runs(before=run_name())

    async def test_conversations_are_listed_by_their_newest_run(self, ledger: RunLedger) -> None:
        """Each is there once; runs that are alone make none."""
        first, second = conversation_name(), conversation_name()
        for name in (first, second, None, first):
            await self._submit(ledger, name)
        assert await ledger.list_conversations() == [first, second]
        assert await ledger.list_conversations(limit=1) == [first]

    async def _submit(
        self, ledger: RunLedger, conversation_id: str | None, agent: str = AGENT
    ) -> str:
        """Submit a run in a millisecond of its own, since the order within one is not promised."""
        await next_millisecond()
        return (await ledger.submit(new_run(conversation_id, agent=agent))).run.id


class EventContract:
    """Status events, text deltas, hints."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_every_change_of_status_is_an_event(self, ledger: RunLedger) -> None:
        """In order, with the worker and the attempt that each is about."""
        lease = await lease_new(ledger)
        await ledger.hand_over(lease)
        await ledger.finish(await take(ledger, lease.run.id, "worker-2"), COMPLETED)
        events = await ledger.list_events(lease.run.id)
        assert all(isinstance(event, StatusEvent) for event in events)
        told = [
            (event.status.value, event.worker_id, event.attempt, event.rolled_back)
            for event in events
            if isinstance(event, StatusEvent)
        ]
        assert told == [
            ("queued", None, 0, False),
            ("running", "worker-1", 1, False),
            ("queued", "worker-1", 1, False),
            ("running", "worker-2", 2, False),
            ("completed", "worker-2", 2, False),
        ]
        times = [event.created_at for event in events if isinstance(event, StatusEvent)]
        assert all(earlier <= later for earlier, later in pairwise(times))
        assert {event.run_id for event in events} == {lease.run.id}

    @pytest.mark.parametrize("policy", ["interrupt", "rollback"])
    async def test_the_last_event_says_whether_messages_were_rolled_back(
        self, ledger: RunLedger, policy: str
    ) -> None:
        """A watcher learns from it to drop what it showed."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        await ledger.submit(new_run(name, on_busy=policy))
        await ledger.finish(lease, CANCELLED, is_rolled_back=policy == "rollback")
        last = (await ledger.list_events(lease.run.id))[-1]
        assert isinstance(last, StatusEvent)
        assert last.status is RunStatus.CANCELLED
        assert last.rolled_back is (policy == "rollback")

    async def test_a_run_that_failed_was_not_rolled_back(self, ledger: RunLedger) -> None:
        """Its messages could not be removed, so nobody is told that they were."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        await ledger.submit(new_run(name, on_busy="rollback"))
        await ledger.finish(lease, Ending(status=RunStatus.FAILED), is_rolled_back=True)
        last = (await ledger.list_events(lease.run.id))[-1]
        assert isinstance(last, StatusEvent)
        assert (last.status, last.rolled_back) == (RunStatus.FAILED, False)

    async def test_deltas_are_read_in_their_order(self, ledger: RunLedger) -> None:
        """Between the status changes, as they were published."""
        lease = await lease_new(ledger)
        run_id = lease.run.id
        pieces = ["He", "llo", " ", "\x00é", ""]
        await ledger.publish(lease, [delta(run_id, piece) for piece in pieces[:2]])
        await ledger.publish(lease, [delta(run_id, piece) for piece in pieces[2:]])
        await ledger.publish(lease, [])
        await ledger.finish(lease, COMPLETED)
        events = await ledger.list_events(run_id)
        assert [event.type for event in events] == ["status"] * 2 + ["delta"] * 5 + ["status"]
        deltas = [event for event in events if isinstance(event, DeltaEvent)]
        assert [event.text for event in deltas] == pieces
        assert {(event.position, event.attempt) for event in deltas} == {(1, 1)}

    async def test_text_that_utf_8_cannot_hold_stops_nothing(self, ledger: RunLedger) -> None:
        """Half of a surrogate pair may come in as input, piece or output; the run goes on."""
        run = (await ledger.submit(new_run(input="a\ud83d"))).run
        lease = await take(ledger, run.id)
        await ledger.publish(lease, [delta(run.id, "b\ud83d")])
        await ledger.finish(lease, COMPLETED.model_copy(update={"output": "c\ud83d"}))
        run = await ledger.get(run.id)
        assert str(run.input).startswith("a")
        assert str(run.output).startswith("c")
        [piece] = [one for one in await ledger.list_events(run.id) if isinstance(one, DeltaEvent)]
        assert piece.text.startswith("b")

    async def test_what_could_not_be_read_again_is_refused(self, ledger: RunLedger) -> None:
        """Nesting without end, in what is asked and in what is answered; nothing is stored."""
        for levels in (230, 5_000):
            with pytest.raises(UnstorableError):
                await ledger.submit(new_run().model_copy(update={"metadata": nested(levels)}))
        assert await ledger.list_runs() == []
        lease = await lease_new(ledger)
        with pytest.raises(UnstorableError):
            await ledger.finish(lease, COMPLETED.model_copy(update={"output": nested(230)}))
        assert (await ledger.get(lease.run.id)).status is RunStatus.RUNNING
        await ledger.finish(lease, COMPLETED.model_copy(update={"output": nested(100)}))
        assert (await ledger.get(lease.run.id)).output == nested(100)

    async def test_deltas_of_a_lost_lease_are_dropped(self, ledger: RunLedger) -> None:
        """A zombie does not type into the answer of the worker that took over."""
        lease = await lease_new(ledger)
        await ledger.hand_over(lease)
        await ledger.publish(lease, [delta(lease.run.id, "late")])
        taken = await take(ledger, lease.run.id, "worker-2")
        await ledger.publish(lease, [delta(lease.run.id, "later")])
        await ledger.finish(taken, COMPLETED)
        await ledger.publish(taken, [delta(lease.run.id, "too late")])
        events = await ledger.list_events(lease.run.id)
        assert not [event for event in events if isinstance(event, DeltaEvent)]

    async def test_events_are_read_from_a_cursor_on(self, ledger: RunLedger) -> None:
        """Every event has its cursor; behind it come the later ones, at most as many as asked."""
        lease = await lease_new(ledger)
        await ledger.publish(lease, [delta(lease.run.id, str(number)) for number in range(5)])
        events = await ledger.list_events(lease.run.id)
        for place, event in enumerate(events):
            behind = await ledger.list_events(lease.run.id, after=event.cursor)
            assert behind == events[place + 1 :]
            two = await ledger.list_events(lease.run.id, after=event.cursor, limit=2)
            assert two == events[place + 1 : place + 3]

    async def test_events_of_an_unknown_run_are_none(self, ledger: RunLedger) -> None:
        """A log that is gone is empty; the run's record says what became of it."""
        assert await ledger.list_events(run_name()) == []

    @pytest.mark.parametrize("cursor", ["", "nonsense", "$", "-", "1", "(1-0"])
    async def test_a_cursor_of_somebody_else_is_refused(
        self, ledger: RunLedger, cursor: str
    ) -> None:
        """Nothing that a store did not hand out is guessed at."""
        run = (await ledger.submit(new_run())).run
        with pytest.raises(InvalidCursorError):
            await ledger.list_events(run.id, after=cursor)

    async def test_a_watcher_hears_of_every_change(
        self, ledger: RunLedger, elsewhere: Backend
    ) -> None:
        """A hint arrives within a second of each status and of deltas, in another process too."""
        run = (await ledger.submit(new_run())).run
        watched = elsewhere.ledger
        async with watched.notifications.subscribe(watched.topic(run.id)) as hints:
            lease = await take(ledger, run.id)
            assert await hints.wait(1)
            assert len(await watched.list_events(run.id)) == 2
            await ledger.publish(lease, [delta(run.id, "x")])
            assert await hints.wait(1)
            await ledger.hand_over(lease)
            assert await hints.wait(1)
            lease = await take(ledger, run.id)
            assert await hints.wait(1)
            await ledger.finish(lease, COMPLETED)
            assert await hints.wait(1)
            assert (await watched.get(run.id)).status is RunStatus.COMPLETED
