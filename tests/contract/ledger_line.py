"""What every run ledger guarantees about runs that wait for each other, and about stopping runs."""

import asyncio
from collections.abc import Sequence

import pytest

from shared.backend import Backend
from shared.errors import ConversationBusyError, RollbackRequestedError, UnknownRunError
from shared.event import StatusEvent
from shared.ledger.protocol import RunLedger, WakeUp
from shared.run import BusyPolicy, CancelResult, Ending, RunStatus
from shared.testing.conversation.value import conversation_name
from tests.contract.values import AGENT, CANCELLED, COMPLETED, is_ready, lease_new, new_run, take

INTERRUPTING = [BusyPolicy.INTERRUPT, BusyPolicy.ROLLBACK]


async def submit_all(
    ledger: RunLedger, name: str, policies: Sequence[BusyPolicy | str]
) -> list[str]:
    """Submit a run with each policy, one after the other; return their ids."""
    return [(await ledger.submit(new_run(name, on_busy=policy))).run.id for policy in policies]


async def run_all(ledger: RunLedger, wake_up: WakeUp | None) -> list[str]:
    """Execute a conversation's runs, each as the one before it names it; return their ids."""
    executed = []
    while wake_up is not None:
        executed.append(wake_up.run_id)
        wake_up = await ledger.finish(await take(ledger, wake_up.run_id), COMPLETED)
    return executed


class WaitingContract:
    """One active run a conversation; the others wait in order."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_the_second_run_waits_for_the_first(self, ledger: RunLedger) -> None:
        """It cannot be leased and is never overdue, until the first one ends and names it."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        submission = await ledger.submit(new_run(name, priority=1))
        assert (submission.is_new, submission.is_ready) == (True, False)
        assert not await is_ready(ledger, submission.run.id)

        wake_up = await ledger.finish(lease, COMPLETED)
        assert wake_up == WakeUp(submission.run.id, AGENT, 1)
        assert await is_ready(ledger, submission.run.id)

    async def test_runs_wait_in_the_order_of_their_submits(self, ledger: RunLedger) -> None:
        """First come, first served."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        waiting = await submit_all(ledger, name, ["enqueue"] * 5)
        assert await run_all(ledger, await ledger.finish(lease, COMPLETED)) == waiting

    async def test_runs_of_other_conversations_do_not_wait(self, ledger: RunLedger) -> None:
        """Conversations, and runs that are alone, know nothing of each other."""
        await lease_new(ledger, conversation_name())
        assert (await ledger.submit(new_run(conversation_name()))).is_ready
        assert (await ledger.submit(new_run())).is_ready
        assert (await ledger.submit(new_run())).is_ready

    async def test_a_handed_over_run_keeps_its_place(self, ledger: RunLedger) -> None:
        """It stays the active one; those that wait go on waiting."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        [waiting] = await submit_all(ledger, name, ["enqueue"])
        await ledger.hand_over(lease)
        assert not await is_ready(ledger, waiting)
        assert await is_ready(ledger, lease.run.id)

    async def test_concurrent_submits_leave_one_active(
        self, ledger: RunLedger, elsewhere: Backend
    ) -> None:
        """However many submits race, exactly one run is ready, and all run in the end."""
        name = conversation_name()
        answers = await asyncio.gather(
            *(place.submit(new_run(name)) for place in [ledger, elsewhere.ledger] * 10)
        )
        [ready] = [answer.run for answer in answers if answer.is_ready]
        executed = await run_all(ledger, WakeUp(ready.id, AGENT, 5))
        assert sorted(executed) == sorted(answer.run.id for answer in answers)

    async def test_a_free_conversation_is_free_again(self, ledger: RunLedger) -> None:
        """After the last run the next submit is ready at once."""
        name = conversation_name()
        await ledger.finish(await lease_new(ledger, name), COMPLETED)
        assert (await ledger.submit(new_run(name, on_busy="reject"))).is_ready

    async def test_reject_stores_nothing(self, ledger: RunLedger) -> None:
        """Refused while a run is ready, running, or between two workers."""
        name = conversation_name()
        first = (await ledger.submit(new_run(name))).run
        refused = new_run(name, on_busy="reject", idempotency_key="k")
        with pytest.raises(ConversationBusyError, match=first.id) as busy:
            await ledger.submit(refused)
        assert busy.value.run_id == first.id
        lease = await take(ledger, first.id)
        with pytest.raises(ConversationBusyError):
            await ledger.submit(refused)
        await ledger.hand_over(lease)
        with pytest.raises(ConversationBusyError):
            await ledger.submit(refused)
        with pytest.raises(UnknownRunError):
            await ledger.get(refused.id)
        await ledger.finish(await take(ledger, first.id), COMPLETED)
        assert (await ledger.submit(refused)).is_new

    async def test_withdrawing_the_active_run_lets_the_next_one_go(self, ledger: RunLedger) -> None:
        """The next run becomes ready; a waiting one that is withdrawn is passed over."""
        name = conversation_name()
        first, second, third = await submit_all(ledger, name, ["enqueue"] * 3)
        assert await ledger.withdraw(second)
        assert await ledger.withdraw(first)
        assert await is_ready(ledger, third)
        assert await ledger.finish(await take(ledger, third), COMPLETED) is None


class InterruptContract:
    """`on_busy` interrupt and rollback."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    @pytest.mark.parametrize("policy", INTERRUPTING)
    async def test_a_running_run_is_asked_to_stop(
        self, ledger: RunLedger, elsewhere: Backend, policy: BusyPolicy
    ) -> None:
        """Its worker is told; the new run waits for its end, before all that do not interrupt."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        [waiting] = await submit_all(ledger, name, ["enqueue"])
        listen, topic = ledger.notifications.listen, ledger.control_topic("worker-1")
        async with listen(topic) as control, asyncio.timeout(5):
            submission = await elsewhere.ledger.submit(new_run(name, on_busy=policy))
            assert lease.run.id == await anext(payload async for payload in control if payload)
        assert (submission.is_ready, submission.interrupted) == (False, lease.run.id)

        stopped = await ledger.get(lease.run.id)
        assert (stopped.status, stopped.cancel_requested) == (RunStatus.RUNNING, True)
        assert stopped.rollback_requested is (policy is BusyPolicy.ROLLBACK)
        assert (await ledger.cancel(lease.run.id)).result is CancelResult.ALREADY_REQUESTED
        wake_up = await ledger.finish(lease, CANCELLED, is_rolled_back=True)
        assert await run_all(ledger, wake_up) == [submission.run.id, waiting]

    @pytest.mark.parametrize("policy", INTERRUPTING)
    async def test_a_run_that_never_started_is_cancelled_at_once(
        self, ledger: RunLedger, policy: BusyPolicy
    ) -> None:
        """The new run takes its place, before those that waited."""
        name = conversation_name()
        first, waiting = await submit_all(ledger, name, ["enqueue"] * 2)
        submission = await ledger.submit(new_run(name, on_busy=policy))
        assert (submission.is_ready, submission.interrupted) == (True, first)
        assert (await ledger.get(first)).status is RunStatus.CANCELLED
        wake_up = WakeUp(submission.run.id, AGENT, 5)
        assert await run_all(ledger, wake_up) == [submission.run.id, waiting]

    async def test_a_run_between_two_workers_is_closed_first(self, ledger: RunLedger) -> None:
        """It stays the active one, overdue at once, so that the next worker closes it."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        await ledger.hand_over(lease)
        submission = await ledger.submit(new_run(name, on_busy="rollback"))
        assert (submission.is_ready, submission.interrupted) == (False, lease.run.id)
        swept = await ledger.sweep("worker-2", agents=[AGENT], limit=5)
        assert swept.overdue == (lease.run.id,)
        taken = await take(ledger, lease.run.id, "worker-2")
        assert taken.run.rollback_requested
        wake_up = await ledger.finish(taken, CANCELLED, is_rolled_back=True)
        assert await run_all(ledger, wake_up) == [submission.run.id]

    @pytest.mark.parametrize("ending", [COMPLETED, CANCELLED])
    async def test_a_run_does_not_end_before_it_is_rolled_back(
        self, ledger: RunLedger, ending: Ending
    ) -> None:
        """A worker that did not hear of it, or too late, is told; then it ends the run, once."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        [waiting] = await submit_all(ledger, name, ["rollback"])
        with pytest.raises(RollbackRequestedError):
            await ledger.finish(lease, ending)
        assert (await ledger.get(lease.run.id)).status is RunStatus.RUNNING
        wake_up = await ledger.finish(lease, CANCELLED, is_rolled_back=True)
        assert await ledger.finish(lease, ending) == wake_up
        assert (await ledger.get(lease.run.id)).status is RunStatus.CANCELLED
        assert await run_all(ledger, wake_up) == [waiting]

    @pytest.mark.parametrize("policy", INTERRUPTING)
    async def test_the_last_one_to_interrupt_wins(
        self, ledger: RunLedger, policy: BusyPolicy
    ) -> None:
        """Those that waited to interrupt are cancelled; those that only wait keep their places."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        ids = await submit_all(ledger, name, ["enqueue", "interrupt", "enqueue", "rollback"])
        last = await ledger.submit(new_run(name, on_busy=policy))
        assert (last.is_ready, last.interrupted) == (False, lease.run.id)
        for overtaken in (ids[1], ids[3]):
            run = await ledger.get(overtaken)
            assert (run.status, run.attempts) == (RunStatus.CANCELLED, 0)
            assert run.finished_at is not None
            assert not run.is_rolled_back
            events = await ledger.list_events(overtaken)
            assert [each.status for each in events if isinstance(each, StatusEvent)] == [
                RunStatus.QUEUED,
                RunStatus.CANCELLED,
            ]
        wake_up = await ledger.finish(lease, CANCELLED, is_rolled_back=True)
        assert await run_all(ledger, wake_up) == [last.run.id, ids[0], ids[2]]

    async def test_a_rollback_of_an_interrupted_run_rolls_back(self, ledger: RunLedger) -> None:
        """Asked to stop first and to roll back later: both hold."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        await submit_all(ledger, name, ["interrupt"])
        assert not (await ledger.get(lease.run.id)).rollback_requested
        submission = await ledger.submit(new_run(name, on_busy="rollback"))
        assert submission.interrupted == lease.run.id
        assert (await ledger.get(lease.run.id)).rollback_requested
        await submit_all(ledger, name, ["interrupt"])
        assert (await ledger.get(lease.run.id)).rollback_requested

    @pytest.mark.parametrize("policy", INTERRUPTING)
    async def test_nobody_is_interrupted_in_a_free_conversation(
        self, ledger: RunLedger, policy: BusyPolicy
    ) -> None:
        """The run is ready at once, and no ended run changes."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        await ledger.finish(lease, COMPLETED)
        submission = await ledger.submit(new_run(name, on_busy=policy))
        assert (submission.is_ready, submission.interrupted) == (True, None)
        assert (await ledger.get(lease.run.id)).status is RunStatus.COMPLETED

    async def test_a_run_that_is_alone_interrupts_nobody(self, ledger: RunLedger) -> None:
        """There is no conversation that another run could hold."""
        lease = await lease_new(ledger)
        submission = await ledger.submit(new_run(on_busy="rollback"))
        assert submission.interrupted is None
        assert not (await ledger.get(lease.run.id)).cancel_requested


class CancelContract:
    """Stopping runs in each of their states."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_a_run_that_never_started_is_cancelled_at_once(self, ledger: RunLedger) -> None:
        """It has its outcome when `cancel` returns, and no worker gets it."""
        run = (await ledger.submit(new_run())).run
        cancellation = await ledger.cancel(run.id)
        assert (cancellation.result, cancellation.next) == (CancelResult.CANCELLED, None)
        cancelled = await ledger.get(run.id)
        assert cancelled.status is RunStatus.CANCELLED
        assert cancelled.finished_at is not None
        assert await ledger.lease(run.id, "worker-1", agents=[AGENT]) is None
        assert (await ledger.cancel(run.id)).result is CancelResult.ALREADY_ENDED

    async def test_a_running_run_is_stopped_by_its_worker(
        self, ledger: RunLedger, elsewhere: Backend
    ) -> None:
        """The worker hears the run's id at once, finds it in its sweeps, and ends the run."""
        lease = await lease_new(ledger)
        listen, topic = ledger.notifications.listen, ledger.control_topic("worker-1")
        async with listen(topic) as control, asyncio.timeout(5):
            assert (await elsewhere.ledger.cancel(lease.run.id)).result is CancelResult.REQUESTED
            # An empty payload says that the connection is new.
            assert lease.run.id == await anext(payload async for payload in control if payload)
        again = await ledger.cancel(lease.run.id)
        assert (again.result, again.next) == (CancelResult.ALREADY_REQUESTED, None)

        run = await ledger.get(lease.run.id)
        assert (run.status, run.cancel_requested) == (RunStatus.RUNNING, True)
        assert not run.rollback_requested
        swept = await ledger.sweep("worker-1", agents=[AGENT], limit=0)
        assert swept.cancelled == (lease.run.id,)
        assert (await ledger.sweep("worker-2", agents=[AGENT], limit=0)).cancelled == ()
        await ledger.finish(lease, CANCELLED)
        assert (await ledger.get(lease.run.id)).status is RunStatus.CANCELLED
        assert (await ledger.sweep("worker-1", agents=[AGENT], limit=0)).cancelled == ()

    async def test_a_run_between_two_workers_is_closed_by_the_next(self, ledger: RunLedger) -> None:
        """It has begun, so its history has to be put in order: it stays queued, overdue at once."""
        lease = await lease_new(ledger)
        await ledger.hand_over(lease)
        cancellation = await ledger.cancel(lease.run.id)
        assert (cancellation.result, cancellation.next) == (CancelResult.REQUESTED, None)
        assert (await ledger.cancel(lease.run.id)).result is CancelResult.ALREADY_REQUESTED
        assert (await ledger.get(lease.run.id)).status is RunStatus.QUEUED
        swept = await ledger.sweep("worker-2", agents=[AGENT], limit=5)
        assert swept.overdue == (lease.run.id,)
        taken = await take(ledger, lease.run.id, "worker-2")
        assert taken.run.cancel_requested
        await ledger.finish(taken, CANCELLED)

    async def test_a_run_that_completes_first_is_completed(self, ledger: RunLedger) -> None:
        """A cancel is a request; an outcome that was there before its worker heard of it counts."""
        lease = await lease_new(ledger)
        await ledger.cancel(lease.run.id)
        await ledger.finish(lease, COMPLETED)
        assert (await ledger.get(lease.run.id)).status is RunStatus.COMPLETED

    async def test_of_many_cancels_one_cancels(self, ledger: RunLedger, elsewhere: Backend) -> None:
        """Concurrent cancels of a waiting run end it once."""
        run = (await ledger.submit(new_run())).run
        answers = await asyncio.gather(
            *(place.cancel(run.id) for place in [ledger, elsewhere.ledger] * 10)
        )
        results = [answer.result for answer in answers]
        assert results.count(CancelResult.CANCELLED) == 1
        assert results.count(CancelResult.ALREADY_ENDED) == 19
        assert len(await ledger.list_events(run.id)) == 2

    async def test_cancelling_the_active_run_lets_the_next_one_go(self, ledger: RunLedger) -> None:
        """The answer names the run to ring for, which is ready."""
        name = conversation_name()
        first, second = await submit_all(ledger, name, ["enqueue"] * 2)
        cancellation = await ledger.cancel(first)
        assert cancellation.next == WakeUp(second, AGENT, 5)
        assert await is_ready(ledger, second)

    async def test_a_waiting_run_that_is_cancelled_is_passed_over(self, ledger: RunLedger) -> None:
        """It leaves the line at once, and nobody becomes ready through that."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        first, second, third = await submit_all(ledger, name, ["enqueue", "interrupt", "enqueue"])
        for waiting in (second, first):
            cancellation = await ledger.cancel(waiting)
            assert (cancellation.result, cancellation.next) == (CancelResult.CANCELLED, None)
            assert (await ledger.get(waiting)).status is RunStatus.CANCELLED
        assert await run_all(ledger, await ledger.finish(lease, CANCELLED)) == [third]
