"""What every run ledger guarantees where workers of several versions live side by side."""

import pytest

from shared.backend import Backend
from shared.errors import FencedError
from shared.ledger.protocol import RunLedger
from shared.run import CancelResult, Lease, RunStatus
from shared.testing.conversation.value import conversation_name
from shared.testing.waiting import eventually
from shared.version import FORMAT_VERSION
from tests.contract.values import AGENT, COMPLETED, lease_new, new_run, take, worker

NEWER = FORMAT_VERSION + 1
NEWEST = FORMAT_VERSION + 2


async def declined(ledger: RunLedger, name: str | None = None, version: int = NEWER) -> Lease:
    """A new run that its first worker found out to be for newer ones."""
    lease = await lease_new(ledger, name)
    await ledger.hand_over(lease, needs_version=version)
    return lease


class VersionContract:
    """Runs that need a newer worker."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_only_those_who_know_its_version_lease_a_run(self, ledger: RunLedger) -> None:
        """Others are refused, however often they try; who is even newer may have it."""
        run_id = (await declined(ledger, version=NEWER)).run.id
        for _ in range(3):
            assert await ledger.lease(run_id, "worker-1", agents=[AGENT]) is None
        await ledger.beat(worker("worker-2"))
        lease = await ledger.lease(run_id, "worker-2", agents=[AGENT], version=NEWEST)
        assert lease is not None
        assert lease.run.needs_version == NEWER
        await ledger.finish(lease, COMPLETED)

    async def test_a_lease_that_was_declined_is_no_attempt(self, ledger: RunLedger) -> None:
        """The run is as if it had never been leased, and nobody crashed."""
        name = conversation_name()
        lease = await declined(ledger, name)
        run = await ledger.get(lease.run.id)
        assert (run.status, run.attempts, run.crashes) == (RunStatus.QUEUED, 0, 0)
        assert run.started_at is None
        again = await ledger.hand_over(lease, needs_version=NEWER)
        assert again.run_id == run.id
        assert (await ledger.get(run.id)).attempts == 0, "repeating it counts no further"

    async def test_earlier_attempts_stay_counted(self, ledger: RunLedger) -> None:
        """A run that was executed for a while has been started, whoever declines it later."""
        first = await lease_new(ledger)
        await ledger.hand_over(first)
        await ledger.hand_over(await take(ledger, first.run.id), needs_version=NEWER)
        run = await ledger.get(first.run.id)
        assert run.attempts == 1
        assert run.started_at is not None

    async def test_a_version_that_is_needed_never_shrinks(self, ledger: RunLedger) -> None:
        """Who comes later and needs less has seen less."""
        run_id = (await declined(ledger, version=NEWEST)).run.id
        await ledger.beat(worker("worker-2"))
        lease = await ledger.lease(run_id, "worker-2", agents=[AGENT], version=NEWEST)
        assert lease is not None
        await ledger.hand_over(lease, needs_version=NEWER)
        assert (await ledger.get(run_id)).needs_version == NEWEST

    async def test_who_lost_the_run_declines_nothing(self, ledger: RunLedger) -> None:
        """As with any other word of a worker that was too slow."""
        lease = await lease_new(ledger)
        await ledger.finish(lease, COMPLETED)
        with pytest.raises(FencedError):
            await ledger.hand_over(lease, needs_version=NEWER)

    async def test_what_an_old_worker_cannot_execute_hides_nothing(self, ledger: RunLedger) -> None:
        """However many such runs wait, its sweep names those that it can execute."""
        for _ in range(5):
            await declined(ledger)
        run_id = (await ledger.submit(new_run())).run.id

        async def is_found() -> bool:
            swept = await ledger.sweep("worker-1", agents=[AGENT], limit=1)
            assert set(swept.overdue) <= {run_id}
            return swept.overdue == (run_id,)

        await eventually(is_found)

    async def test_a_refusal_makes_it_overdue_for_newer_workers(self, ledger: RunLedger) -> None:
        """They need not wait until it would be, were it lost."""
        run_id = (await declined(ledger)).run.id
        assert await ledger.lease(run_id, "worker-1", agents=[AGENT]) is None
        swept = await ledger.sweep("worker-2", agents=[AGENT], limit=5, version=NEWER)
        assert swept.overdue == (run_id,)

    async def test_runs_for_newer_workers_are_told(self, ledger: RunLedger) -> None:
        """To those who serve the agent and are too old, while the runs wait."""
        assert await ledger.find_newer(agents=[AGENT]) == {}
        run_id = (await declined(ledger)).run.id
        assert await ledger.find_newer(agents=[AGENT]) == {run_id: NEWER}
        assert await ledger.find_newer(agents=["painter"]) == {}
        assert await ledger.find_newer(agents=[AGENT], version=NEWER) == {}
        await ledger.beat(worker("worker-2"))
        assert await ledger.lease(run_id, "worker-2", agents=[AGENT], version=NEWER)
        assert await ledger.find_newer(agents=[AGENT]) == {}

    async def test_a_run_that_waits_for_newer_workers_is_cancelled_at_once(
        self, ledger: RunLedger
    ) -> None:
        """It wrote nothing, so nobody is needed for that; the conversation goes on."""
        name = conversation_name()
        waiting = (await declined(ledger, name)).run.id
        following = (await ledger.submit(new_run(name))).run.id
        cancelled = await ledger.cancel(waiting)
        assert cancelled.result is CancelResult.CANCELLED
        assert cancelled.next is not None
        assert cancelled.next.run_id == following
        assert await ledger.find_newer(agents=[AGENT]) == {}
        assert (await take(ledger, following)).run.id == following

    async def test_an_interrupt_takes_the_place_of_such_a_run(self, ledger: RunLedger) -> None:
        """It never started, so it ends at once."""
        name = conversation_name()
        waiting = (await declined(ledger, name)).run.id
        urgent = (await ledger.submit(new_run(name, on_busy="interrupt"))).run.id
        assert (await ledger.get(waiting)).status is RunStatus.CANCELLED
        assert (await take(ledger, urgent)).run.id == urgent
