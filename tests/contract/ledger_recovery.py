"""What every run ledger guarantees when something dies, is lost or is over."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared.backend import Backend
from shared.errors import FencedError, UnknownRunError
from shared.ledger.protocol import RunLedger, Sweep, WakeUp
from shared.run import Lease, RunStatus
from shared.testing.conversation.value import conversation_name
from shared.testing.waiting import eventually
from tests.contract.harness import SHORT_TIMES, Harness
from tests.contract.values import (
    AGENT,
    CANCELLED,
    COMPLETED,
    is_ready,
    lease_new,
    new_run,
    next_millisecond,
    take,
    worker,
)


class RecoveryContract:
    """Heartbeats, sweeps, expiry."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_a_worker_is_listed_while_it_beats(self, ledger: RunLedger) -> None:
        """It is listed as it announced itself last, and gone a lease after its last beat."""
        assert await ledger.list_workers() == []
        first, other = worker("worker-1"), worker("worker-2", "painter")
        await ledger.beat(first)
        await ledger.beat(other)
        busy = first.model_copy(update={"active_runs": 3})
        await ledger.beat(busy)
        assert sorted(await ledger.list_workers(), key=lambda one: one.id) == [busy, other]

        async def only_the_other_is_left() -> bool:
            await ledger.beat(other)
            return await ledger.list_workers() == [other]

        await eventually(only_the_other_is_left)

    async def test_a_retired_worker_is_not_listed(self, ledger: RunLedger) -> None:
        """It is gone at once; retiring twice, or somebody unknown, is harmless."""
        await ledger.beat(worker("worker-1"))
        await ledger.retire("worker-1")
        await ledger.retire("worker-1")
        await ledger.retire("nobody")
        assert await ledger.list_workers() == []

    async def test_a_dead_workers_runs_are_reclaimed(
        self, ledger: RunLedger, elsewhere: Backend
    ) -> None:
        """A lease after its last beat another's sweep takes its runs back, all of them, once."""
        name = conversation_name()
        leases = [await lease_new(ledger, name), await lease_new(ledger)]
        waiting = (await ledger.submit(new_run(name))).run
        swept = await self._sweep_until_reclaimed(elsewhere.ledger, len(leases))
        assert {wake_up.run_id for wake_up in swept.reclaimed} == {one.run.id for one in leases}
        assert {wake_up.agent for wake_up in swept.reclaimed} == {AGENT}
        assert (await elsewhere.ledger.sweep("worker-2", agents=[], limit=0)).reclaimed == ()

        for lease in leases:
            run = await ledger.get(lease.run.id)
            assert (run.status, run.crashes, run.attempts) == (RunStatus.QUEUED, 1, 1)
            assert await is_ready(ledger, run.id)
        assert not await is_ready(ledger, waiting.id)

    async def test_after_an_outage_the_first_one_back_leaves_others_their_runs(
        self, ledger: RunLedger, elsewhere: Backend
    ) -> None:
        """Where nobody could beat, nobody is dead yet: a lease after its end is time enough."""
        lease = await lease_new(ledger)

        async def nobody_is_live() -> bool:
            return not await ledger.list_workers()

        await eventually(nobody_is_live)
        await elsewhere.ledger.beat(worker("worker-2"))
        swept = await elsewhere.ledger.sweep("worker-2", agents=[AGENT], limit=5)
        assert swept.reclaimed == ()
        assert [each.id for each in await ledger.list_workers()] == ["worker-2"]
        swept = await self._sweep_until_reclaimed(elsewhere.ledger)
        assert [each.run_id for each in swept.reclaimed] == [lease.run.id]

    async def test_an_outage_brings_nobody_back_to_life(self, harness: Harness) -> None:
        """A worker that was dead when it began is dead after it; its runs wait no longer."""
        backend = harness.open(lease_s=2.0)  # longer than a busy machine keeps a beat waiting
        ledger, elsewhere = backend.ledger, harness.open_elsewhere(backend)
        lease = await lease_new(ledger)

        async def only_the_other_is_left() -> bool:
            await ledger.beat(worker("worker-2"))
            return [each.id for each in await ledger.list_workers()] == ["worker-2"]

        async def nobody_is_live() -> bool:
            return not await ledger.list_workers()

        await eventually(only_the_other_is_left)
        await ledger.beat(worker("worker-2"))  # the one before may have come a moment too early
        await eventually(nobody_is_live)
        await elsewhere.ledger.beat(worker("worker-3"))
        swept = await elsewhere.ledger.sweep("worker-3", agents=[AGENT], limit=5)
        assert [each.run_id for each in swept.reclaimed] == [lease.run.id]

    async def test_who_was_silent_before_an_outage_has_the_rest_of_a_lease(
        self, harness: Harness
    ) -> None:
        """The time of the outage counts for nobody, the silence before it does."""
        ledger = harness.open(lease_s=2.0).ledger
        early = await lease_new(ledger)
        since = time.monotonic()
        late = await lease_new(ledger, worker_id="worker-4")

        async def was_silent() -> bool:
            await ledger.beat(worker("worker-4"))
            return time.monotonic() - since > 1.4

        async def nobody_is_live() -> bool:
            return not await ledger.list_workers()

        await eventually(was_silent)
        await eventually(nobody_is_live)
        await ledger.beat(worker("worker-3"))
        back = time.monotonic()
        first = await self._sweep_until_reclaimed(ledger)
        assert [each.run_id for each in first.reclaimed] == [early.run.id]
        assert time.monotonic() - back < 1.4, "it waited for a whole lease"
        second = await self._sweep_until_reclaimed(ledger)
        assert [each.run_id for each in second.reclaimed] == [late.run.id]

    async def test_who_comes_back_from_the_dead_is_fenced(self, ledger: RunLedger) -> None:
        """A worker whose run was taken over can neither finish it nor give it back."""
        lease = await lease_new(ledger)
        await self._sweep_until_reclaimed(ledger)
        with pytest.raises(FencedError):
            await ledger.finish(lease, COMPLETED)
        taken = await take(ledger, lease.run.id, "worker-2")
        assert taken.fencing_token > lease.fencing_token
        with pytest.raises(FencedError):
            await ledger.finish(lease, COMPLETED)
        with pytest.raises(FencedError):
            await ledger.hand_over(lease)
        swept = await ledger.sweep("worker-1", agents=[AGENT], limit=0)
        assert swept.leased == frozenset()
        await ledger.finish(taken, COMPLETED)

    async def test_every_death_is_counted(self, ledger: RunLedger) -> None:
        """A run remembers how many workers died under it; handing over is no death."""
        lease = await lease_new(ledger)
        await ledger.hand_over(lease)
        for crashes in (1, 2):
            lease = await take(ledger, lease.run.id)
            assert lease.run.crashes == crashes - 1
            await self._sweep_until_reclaimed(ledger)
            assert (await ledger.get(lease.run.id)).crashes == crashes

    async def test_progress_clears_strikes(self, ledger: RunLedger) -> None:
        """A run that stored a message has not died at one point again and again."""
        lease = await lease_new(ledger)
        await self._sweep_until_reclaimed(ledger)
        lease = await take(ledger, lease.run.id)
        assert (lease.run.crashes, lease.run.strikes) == (1, 1)
        for _ in range(2):
            run = await ledger.clear_strikes(lease)
            assert (run.crashes, run.strikes, run.attempts) == (1, 0, 2)
            assert await ledger.get(run.id) == run
        await self._sweep_until_reclaimed(ledger)
        run = await ledger.get(lease.run.id)
        assert (run.crashes, run.strikes) == (2, 1)

    async def test_only_who_holds_a_run_clears_its_strikes(self, ledger: RunLedger) -> None:
        """Not a zombie, whose message was refused as well."""
        lease = await lease_new(ledger)
        await self._sweep_until_reclaimed(ledger)
        with pytest.raises(FencedError):
            await ledger.clear_strikes(lease)
        await take(ledger, lease.run.id, "worker-2")
        with pytest.raises(FencedError):
            await ledger.clear_strikes(lease)
        assert (await ledger.get(lease.run.id)).strikes == 1

    async def test_a_run_that_may_kill_its_worker_is_kept_apart(self, harness: Harness) -> None:
        """One strike before the last it is a suspect: named apart, at once, given on demand."""
        ledger = harness.open(max_crashes=3, pickup_s=60).ledger
        run_id = (await self._crashed(ledger, 2)).run.id
        run = await ledger.get(run_id)
        assert (run.strikes, run.is_suspect, run.status) == (2, True, RunStatus.QUEUED)
        swept = await ledger.sweep("worker-2", agents=[AGENT], limit=5)
        assert (swept.overdue, swept.suspects) == ((), (run_id,))
        assert (await ledger.sweep("worker-2", agents=["painter"], limit=5)).suspects == ()
        worker_id, agents = "worker-2", [AGENT]
        assert await ledger.lease(run_id, worker_id, agents=agents, takes_suspect=False) is None
        assert (await ledger.sweep("worker-2", agents=[AGENT], limit=0)).suspects == (run_id,)
        taken = await ledger.lease(run_id, worker_id, agents=agents)
        assert taken is not None
        assert taken.run.is_suspect
        assert (await ledger.sweep("worker-2", agents=[AGENT], limit=5)).suspects == ()
        await ledger.finish(taken, COMPLETED)
        assert not (await ledger.get(run_id)).is_suspect

    async def test_a_suspect_that_is_handed_over_is_still_one(self, harness: Harness) -> None:
        """To hand over is no progress; to have stored something is."""
        ledger = harness.open(max_crashes=3).ledger
        lease = await self._crashed(ledger, 2)
        lease = await take(ledger, lease.run.id)
        await ledger.hand_over(lease)
        assert (await ledger.get(lease.run.id)).is_suspect
        lease = await take(ledger, lease.run.id)
        run = await ledger.clear_strikes(lease)
        assert (run.strikes, run.is_suspect) == (0, False)
        await ledger.hand_over(lease)
        assert await is_ready(ledger, run.id)
        assert (await ledger.sweep("worker-2", agents=[AGENT], limit=5)).suspects == ()

    async def test_a_suspect_that_is_to_be_closed_is_none(self, harness: Harness) -> None:
        """Whoever takes it next only ends it, so anybody may, and be rung for it."""
        ledger = harness.open(max_crashes=3).ledger
        lease = await self._crashed(ledger, 2)
        await ledger.cancel(lease.run.id)
        assert not (await ledger.get(lease.run.id)).is_suspect
        swept = await ledger.sweep("worker-2", agents=[AGENT], limit=5)
        assert (swept.overdue, swept.suspects) == ((lease.run.id,), ())
        lost = await self._crashed(ledger, 3)
        assert not (await ledger.get(lost.run.id)).is_suspect

    @pytest.mark.parametrize("max_crashes", [1, 2])
    async def test_a_run_that_never_crashed_is_no_suspect(
        self, harness: Harness, max_crashes: int
    ) -> None:
        """However few crashes are allowed."""
        ledger = harness.open(max_crashes=max_crashes).ledger
        lease = await self._crashed(ledger, 0)
        assert not lease.run.is_suspect
        await self._sweep_until_reclaimed(ledger)
        assert (await ledger.get(lease.run.id)).is_suspect is (max_crashes == 2)

    async def test_a_live_workers_runs_are_left_alone(self, ledger: RunLedger) -> None:
        """However long a run takes, its worker's heartbeat is enough."""
        lease = await lease_new(ledger)
        end = time.monotonic() + 3 * float(SHORT_TIMES["lease_s"])

        async def is_over() -> bool:
            await ledger.beat(worker("worker-1"))
            swept = await ledger.sweep("worker-2", agents=[AGENT], limit=5)
            assert swept.reclaimed == ()
            return time.monotonic() > end

        await eventually(is_over)
        assert (await ledger.sweep("worker-1", agents=[], limit=0)).leased == {lease.run.id}

    async def test_a_retired_workers_runs_are_reclaimed(self, ledger: RunLedger) -> None:
        """What it did not hand over is found, and counts as crashed."""
        lease = await lease_new(ledger)
        await ledger.retire("worker-1")
        await self._sweep_until_reclaimed(ledger)
        assert (await ledger.get(lease.run.id)).crashes == 1

    async def test_concurrent_sweeps_reclaim_once(
        self, ledger: RunLedger, elsewhere: Backend
    ) -> None:
        """That several workers look around at once changes nothing."""
        lease = await lease_new(ledger)

        async def sweep_all() -> list[str]:
            swept = await asyncio.gather(
                *(
                    place.sweep(f"sweeper-{number}", agents=[AGENT], limit=0)
                    for number, place in enumerate([ledger, elsewhere.ledger] * 5)
                )
            )
            return [wake_up.run_id for one in swept for wake_up in one.reclaimed]

        assert await eventually(sweep_all) == [lease.run.id]
        assert (await ledger.get(lease.run.id)).crashes == 1

    async def test_a_run_that_nobody_was_rung_for_is_found(self, ledger: RunLedger) -> None:
        """It is overdue `pickup_s` after it became ready, not before, until somebody takes it."""
        run = (await ledger.submit(new_run())).run
        assert (await ledger.sweep("worker-2", agents=[AGENT], limit=5)).overdue == ()
        await self._sweep_until_overdue(ledger, run.id)
        await take(ledger, run.id)
        assert (await ledger.sweep("worker-2", agents=[AGENT], limit=5)).overdue == ()

    async def test_a_run_that_was_taken_back_is_overdue_soon(self, harness: Harness) -> None:
        """After `sweep_s`: whoever is rung for it may be dead too, and it has waited enough."""
        ledger = harness.open(pickup_s=3600, sweep_s=0.05).ledger
        lease = await lease_new(ledger)
        await self._sweep_until_reclaimed(ledger)
        await self._sweep_until_overdue(ledger, lease.run.id)

    async def test_a_run_that_became_ready_later_is_found_too(self, ledger: RunLedger) -> None:
        """After a finish, a hand-over, a cancel and a withdrawal whose ring was lost."""
        names = [conversation_name() for _ in range(4)]
        first = [(await ledger.submit(new_run(name))).run for name in names]
        second = [(await ledger.submit(new_run(name))).run for name in names]
        await ledger.finish(await take(ledger, first[0].id), COMPLETED)
        await ledger.hand_over(await take(ledger, first[1].id))
        await ledger.cancel(first[2].id)
        await ledger.withdraw(first[3].id)
        for run in (second[0], first[1], second[2], second[3]):
            await self._sweep_until_overdue(ledger, run.id)

    async def test_a_sweep_names_as_many_overdue_runs_as_asked(self, harness: Harness) -> None:
        """Those overdue for longest first, wherever they lie; a full worker asks for none."""
        ledger = harness.open(pickup_s=1.0).ledger
        runs = []
        for _ in range(6):
            await next_millisecond()
            runs.append((await ledger.submit(new_run(conversation_name()))).run.id)
        # Refused for its agent, the last one is overdue at once, before those that are not yet.
        assert await ledger.lease(runs[-1], "worker-1", agents=["painter"]) is None
        runs = [runs[-1], *runs[:-1]]
        for run_id in runs:
            await self._sweep_until_overdue(ledger, run_id)
        for limit in (0, 1, 4, 9):
            swept = await ledger.sweep("worker-2", agents=["painter", AGENT], limit=limit)
            assert list(swept.overdue) == runs[:limit]

    async def test_a_reclaimed_run_is_closed_by_the_next_worker(self, ledger: RunLedger) -> None:
        """A cancel that its dead worker never heard is not lost."""
        lease = await lease_new(ledger)
        await ledger.cancel(lease.run.id)
        await self._sweep_until_reclaimed(ledger)
        taken = await take(ledger, lease.run.id, "worker-2")
        assert taken.run.cancel_requested
        swept = await ledger.sweep("worker-2", agents=[AGENT], limit=0)
        assert swept.cancelled == (lease.run.id,)
        await ledger.finish(taken, CANCELLED)

    async def test_an_ended_run_is_forgotten_after_its_time(self, harness: Harness) -> None:
        """After `run_ttl_s` it is unknown and unlisted; one that has not ended stays."""
        ledger = harness.open(run_ttl_s=0.5).ledger
        name = conversation_name()
        ended = await lease_new(ledger, name)
        waiting = (await ledger.submit(new_run(name))).run
        await ledger.finish(ended, COMPLETED)
        assert (await ledger.get(ended.run.id)).output == "done"

        async def is_forgotten() -> bool:
            try:
                await ledger.get(ended.run.id)
            except UnknownRunError:
                return True
            return False

        await eventually(is_forgotten)
        assert [run.id for run in await ledger.list_runs()] == [waiting.id]
        assert [run.id for run in await ledger.list_runs(conversation_id=name)] == [waiting.id]
        with pytest.raises(FencedError):
            await ledger.finish(ended, COMPLETED)
        taken = await take(ledger, waiting.id)
        assert taken.fencing_token > ended.fencing_token

    async def test_a_run_that_took_longer_is_listed_for_as_long(self, harness: Harness) -> None:
        """`run_ttl_s` counts from the end, however long before that it, or the next, began."""
        ledger = harness.open(run_ttl_s=1.0).ledger
        name = conversation_name()
        lease = await lease_new(ledger, name)
        waiting = (await ledger.submit(new_run(name))).run

        async def has_taken_long() -> bool:
            return datetime.now(UTC) - waiting.created_at > timedelta(seconds=2.1)

        await eventually(has_taken_long)
        await ledger.finish(await take(ledger, lease.run.id), COMPLETED)
        await ledger.sweep("worker-1", agents=[AGENT], limit=0)
        both = {lease.run.id, waiting.id}
        assert {run.id for run in await ledger.list_runs()} == both
        assert {run.id for run in await ledger.list_runs(conversation_id=name)} == both

    async def test_events_are_forgotten_before_their_run(self, harness: Harness) -> None:
        """A log goes `event_ttl_s` after its last event; the run stays."""
        ledger = harness.open(event_ttl_s=0.3).ledger
        run = (await ledger.submit(new_run())).run
        assert len(await ledger.list_events(run.id)) == 1

        async def is_forgotten() -> bool:
            return await ledger.list_events(run.id) == []

        await eventually(is_forgotten)
        assert await ledger.get(run.id) == run
        await take(ledger, run.id)
        assert len(await ledger.list_events(run.id)) == 1

    async def _crashed(self, ledger: RunLedger, crashes: int) -> Lease:
        """The last lease of a new run whose workers died so often."""
        lease = await lease_new(ledger)
        for number in range(crashes):
            await self._sweep_until_reclaimed(ledger)
            if number + 1 < crashes:
                lease = await take(ledger, lease.run.id)
        return lease

    async def _sweep_until_reclaimed(self, ledger: RunLedger, count: int = 1) -> Sweep:
        reclaimed: list[WakeUp] = []

        async def reclaims() -> Sweep | None:
            await ledger.beat(worker("worker-2"))
            swept = await ledger.sweep("worker-2", agents=[AGENT], limit=5)
            reclaimed.extend(swept.reclaimed)
            return replace(swept, reclaimed=tuple(reclaimed)) if len(reclaimed) >= count else None

        swept = await eventually(reclaims)
        assert swept is not None
        return swept

    async def _sweep_until_overdue(self, ledger: RunLedger, run_id: str) -> None:
        async def is_overdue() -> bool:
            swept = await ledger.sweep("worker-2", agents=[AGENT], limit=50)
            return run_id in swept.overdue

        await eventually(is_overdue)
