"""What every run ledger guarantees about one run: submit, lease, finish, hand over.

The other parts: `ledger_line` (runs of one conversation), `ledger_recovery` (workers that die, runs
nobody took, expiry), `ledger_reading` (lists, events, hints).
"""

import asyncio

import pytest

from shared.backend import Backend
from shared.errors import FencedError, IdempotencyConflictError, InvalidIdError, UnknownRunError
from shared.identifier import new_run_id, partition_of
from shared.ledger.protocol import RunLedger
from shared.message import MediaPart, TextPart, Usage
from shared.run import CancelResult, Ending, NewRun, RunError, RunOptions, RunStatus
from shared.testing.conversation.value import conversation_name, run_name
from shared.testing.waiting import eventually
from tests.contract.harness import Harness
from tests.contract.values import AGENT, CANCELLED, COMPLETED, is_ready, lease_new, new_run, take


class SubmitContract:
    """Accepting a run once."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_a_submitted_run_is_queued_and_ready(self, ledger: RunLedger) -> None:
        """What `submit` answers is what `get` reads: a run that any worker may take."""
        submission = await ledger.submit(new_run())
        assert (submission.is_new, submission.is_ready) == (True, True)
        assert submission.interrupted is None
        run = submission.run
        assert (run.status, run.attempts, run.crashes) == (RunStatus.QUEUED, 0, 0)
        assert (run.started_at, run.finished_at, run.worker_id) == (None, None, None)
        assert await ledger.get(run.id) == run
        assert await is_ready(ledger, run.id)

    async def test_a_run_keeps_all_that_was_submitted(self, ledger: RunLedger) -> None:
        """Every field comes back as the client gave it."""
        new = new_run(
            conversation_name(),
            agent="écrivain",
            input=(TextPart(text="a\x00b"), MediaPart(media_type="image/png", data="aGk=")),
            idempotency_key="any thing: {at} all\n",
            metadata={"a": [1, None, {"b": 2.5}], "empty": {}},
            priority=0,
            options=RunOptions(history_size=3, save_on_iteration=False, time_limit_s=1.5),
        )
        run = (await ledger.submit(new)).run
        kept = await ledger.get(run.id)
        assert NewRun(**{name: getattr(kept, name) for name in NewRun.model_fields}) == new
        assert kept == run

    async def test_the_same_run_can_be_submitted_again(self, ledger: RunLedger) -> None:
        """A client whose answer was lost sends the same run again, and gets it."""
        new = new_run()
        first = await ledger.submit(new)
        second = await ledger.submit(new)
        assert second.run == first.run
        assert (second.is_new, second.is_ready) == (False, True)
        assert len(await ledger.list_runs()) == 1

    @pytest.mark.parametrize("is_alone", [True, False])
    async def test_an_idempotency_key_gives_one_run(
        self, ledger: RunLedger, elsewhere: Backend, is_alone: bool
    ) -> None:
        """Of 50 concurrent submits with one key, one makes a run and all answer with it."""
        name = None if is_alone else conversation_name()
        news = [new_run(name, idempotency_key="k") for _ in range(50)]
        answers = await asyncio.gather(
            *(
                place.submit(new)
                for new, place in zip(news, [ledger, elsewhere.ledger] * 25, strict=True)
            )
        )
        assert sum(answer.is_new for answer in answers) == 1
        assert len({answer.run.id for answer in answers}) == 1
        assert len(await ledger.list_runs(limit=100)) == 1

    @pytest.mark.parametrize("is_alone", [True, False])
    async def test_a_known_key_says_whether_its_run_is_ready(
        self, ledger: RunLedger, is_alone: bool
    ) -> None:
        """A client whose answer was lost has rung nobody yet, and so has to know."""
        name = None if is_alone else conversation_name()
        first = await ledger.submit(new_run(name, idempotency_key="k"))
        assert (await ledger.submit(new_run(name, idempotency_key="k"))).is_ready
        await take(ledger, first.run.id)
        assert not (await ledger.submit(new_run(name, idempotency_key="k"))).is_ready

    async def test_a_known_key_answers_with_the_run_as_it_is_now(self, ledger: RunLedger) -> None:
        """Also when the run has ended, and whatever policy the repetition names."""
        name = conversation_name()
        first = (await ledger.submit(new_run(name, idempotency_key="k"))).run
        lease = await take(ledger, first.id)
        for policy in ("reject", "interrupt"):
            again = await ledger.submit(new_run(name, idempotency_key="k", on_busy=policy))
            assert (again.run.id, again.run.status) == (first.id, RunStatus.RUNNING)
            assert (again.is_new, again.is_ready, again.interrupted) == (False, False, None)
        await ledger.finish(lease, COMPLETED)
        again = await ledger.submit(new_run(name, idempotency_key="k"))
        assert (again.run.id, again.run.output) == (first.id, "done")

    @pytest.mark.parametrize("changed", [{"agent": "other"}, {"input": "else"}])
    async def test_a_key_cannot_serve_two_requests(
        self, ledger: RunLedger, changed: dict[str, str]
    ) -> None:
        """Another agent or input under a known key is a conflict, and stores nothing."""
        await ledger.submit(new_run(idempotency_key="k"))
        refused = new_run(idempotency_key="k", **changed)
        with pytest.raises(IdempotencyConflictError):
            await ledger.submit(refused)
        with pytest.raises(UnknownRunError):
            await ledger.get(refused.id)

    async def test_a_key_belongs_to_its_conversation(self, ledger: RunLedger) -> None:
        """The same key elsewhere, or for a run that is alone, is another key."""
        places = (None, conversation_name(), conversation_name())
        runs = [(await ledger.submit(new_run(place, idempotency_key="k"))).run for place in places]
        assert len({run.id for run in runs}) == 3

    async def test_a_key_is_forgotten_after_its_time(self, harness: Harness) -> None:
        """After `idempotency_ttl_s` the same request makes a new run."""
        ledger = harness.open(idempotency_ttl_s=0.5).ledger
        first = await ledger.submit(new_run(idempotency_key="k"))
        assert not (await ledger.submit(new_run(idempotency_key="k"))).is_new

        async def is_new() -> bool:
            return (await ledger.submit(new_run(idempotency_key="k"))).is_new

        await eventually(is_new)
        assert await ledger.get(first.run.id) == first.run

    async def test_a_key_is_free_when_its_run_is_gone(self, harness: Harness) -> None:
        """A key that outlives its run does not lead into nothing."""
        ledger = harness.open(run_ttl_s=0.3).ledger
        first = await ledger.submit(new_run(idempotency_key="k"))
        await ledger.finish(await take(ledger, first.run.id), COMPLETED)

        async def is_new() -> bool:
            return (await ledger.submit(new_run(idempotency_key="k"))).is_new

        await eventually(is_new)

    async def test_a_run_id_of_another_partition_is_refused(self, ledger: RunLedger) -> None:
        """A run has to lie where its conversation lies, or no single step could change both."""
        name = conversation_name()
        elsewhere = new_run_id((partition_of(name) + 1) % 16)
        with pytest.raises(InvalidIdError):
            await ledger.submit(new_run(name).model_copy(update={"id": elsewhere}))

    async def test_a_run_that_nobody_leased_can_be_withdrawn(self, ledger: RunLedger) -> None:
        """It is as if it had never been submitted: unknown, unlisted, its key free."""
        new = new_run(conversation_name(), idempotency_key="k")
        await ledger.submit(new)
        assert await ledger.withdraw(new.id)
        with pytest.raises(UnknownRunError):
            await ledger.get(new.id)
        assert await ledger.list_runs() == []
        assert await ledger.list_conversations() == []
        assert await ledger.list_events(new.id) == []
        assert await ledger.lease(new.id, "worker-1", agents=[AGENT]) is None
        again = await ledger.submit(new_run(new.conversation_id, idempotency_key="k", input="b"))
        assert (again.is_new, again.is_ready) == (True, True)

    async def test_withdrawing_twice_is_harmless(self, ledger: RunLedger) -> None:
        """Whoever lost the answer asks again and hears the same."""
        run = (await ledger.submit(new_run())).run
        assert await ledger.withdraw(run.id)
        assert await ledger.withdraw(run.id)

    async def test_a_run_that_was_leased_stays(self, ledger: RunLedger) -> None:
        """Running, handed over or ended: it is not withdrawn, and nothing changes."""
        lease = await lease_new(ledger)
        assert not await ledger.withdraw(lease.run.id)
        await ledger.hand_over(lease)
        assert not await ledger.withdraw(lease.run.id)
        lease = await take(ledger, lease.run.id)
        await ledger.finish(lease, COMPLETED)
        assert not await ledger.withdraw(lease.run.id)
        assert (await ledger.get(lease.run.id)).status is RunStatus.COMPLETED

    async def test_a_run_that_somebody_else_was_given_stays(self, ledger: RunLedger) -> None:
        """Another caller was told that it is accepted; so it is, whatever became of the ring."""
        new = new_run(idempotency_key="k")
        await ledger.submit(new)
        assert not (await ledger.submit(new_run(idempotency_key="k"))).is_new
        assert not await ledger.withdraw(new.id)
        assert await is_ready(ledger, new.id)


class LeaseContract:
    """One worker at a time, from lease to outcome."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_a_lease_starts_the_run(self, ledger: RunLedger) -> None:
        """The run is running, by whom and since when stands in its record."""
        lease = await lease_new(ledger)
        assert lease.worker_id == "worker-1"
        assert lease.fencing_token == lease.run.fencing_token > 0
        run = await ledger.get(lease.run.id)
        assert run == lease.run
        assert (run.status, run.worker_id, run.attempts) == (RunStatus.RUNNING, "worker-1", 1)
        assert run.started_at is not None
        assert run.started_at >= run.created_at

    async def test_of_many_leases_one_succeeds(self, ledger: RunLedger, elsewhere: Backend) -> None:
        """50 workers want one run at the same time; 49 get nothing."""
        run = (await ledger.submit(new_run())).run
        leases = await asyncio.gather(
            *(
                place.lease(run.id, f"worker-{number}", agents=[AGENT])
                for number, place in enumerate([ledger, elsewhere.ledger] * 25)
            )
        )
        [won] = [lease for lease in leases if lease is not None]
        assert (await ledger.get(run.id)).worker_id == won.worker_id

    async def test_the_holder_gets_its_lease_again(self, ledger: RunLedger) -> None:
        """A worker whose answer was lost asks again; that is no second attempt."""
        lease = await lease_new(ledger)
        again = await ledger.lease(lease.run.id, "worker-1", agents=[AGENT])
        assert again is not None
        token = again.fencing_token
        assert again.run == lease.run.model_copy(update={"fencing_token": token})
        assert await ledger.get(lease.run.id) == again.run
        assert await ledger.lease(lease.run.id, "worker-2", agents=[AGENT]) is None

    async def test_what_was_sent_under_the_former_lease_comes_too_late(
        self, ledger: RunLedger
    ) -> None:
        """A worker gave its run up and took it again; what it had sent before arrives now."""
        former = await lease_new(ledger)
        lease = await take(ledger, former.run.id)
        assert lease.fencing_token > former.fencing_token
        for late in (ledger.finish(former, COMPLETED), ledger.hand_over(former)):
            with pytest.raises(FencedError):
                await late
        assert (await ledger.get(lease.run.id)).status is RunStatus.RUNNING
        await ledger.finish(lease, COMPLETED)

    async def test_what_is_not_ready_is_not_leased(self, ledger: RunLedger) -> None:
        """An unknown run, an ended one and one that waits for another give nothing."""
        assert await ledger.lease(run_name(), "worker-1", agents=[AGENT]) is None
        name = conversation_name()
        lease = await lease_new(ledger, name)
        waiting = (await ledger.submit(new_run(name))).run
        assert await ledger.lease(waiting.id, "worker-2", agents=[AGENT]) is None
        await ledger.finish(lease, COMPLETED)
        for worker_id in ("worker-1", "worker-2"):
            assert await ledger.lease(lease.run.id, worker_id, agents=[AGENT]) is None

    async def test_a_worker_takes_only_runs_of_its_agents(self, ledger: RunLedger) -> None:
        """A refusal makes the run overdue at once, for a worker that serves its agent."""
        run = (await ledger.submit(new_run())).run
        assert await ledger.lease(run.id, "worker-1", agents=["other"]) is None
        swept = await ledger.sweep("worker-2", agents=[AGENT, "another"], limit=5)
        assert swept.overdue == (run.id,)
        assert (await ledger.sweep("worker-1", agents=["other"], limit=5)).overdue == ()
        assert await ledger.lease(run.id, "worker-2", agents=["another", AGENT]) is not None

    async def test_tokens_grow_with_each_lease(self, ledger: RunLedger) -> None:
        """Over runs of a conversation and over leases of one run, for ever."""
        name, tokens = conversation_name(), []
        for _ in range(3):
            lease = await lease_new(ledger, name)
            tokens.append(lease.fencing_token)
            await ledger.hand_over(lease)
            lease = await take(ledger, lease.run.id, "worker-2")
            tokens.append(lease.fencing_token)
            await ledger.finish(lease, COMPLETED)
        assert tokens == sorted(set(tokens))

    @pytest.mark.parametrize(
        "ending",
        [
            Ending(
                status=RunStatus.COMPLETED,
                output={"answer": [1, None, "\x00"]},
                usage=Usage(input_tokens=5, requests=1),
                rounds=2,
            ),
            Ending(status=RunStatus.FAILED, error=RunError(code="max_rounds", message="too many")),
            Ending(status=RunStatus.CANCELLED, rounds=1),
        ],
    )
    async def test_finish_stores_the_outcome(self, ledger: RunLedger, ending: Ending) -> None:
        """Status, output, usage, rounds and error are those of the ending."""
        lease = await lease_new(ledger)
        assert await ledger.finish(lease, ending) is None
        run = await ledger.get(lease.run.id)
        assert Ending(**{name: getattr(run, name) for name in Ending.model_fields}) == ending
        assert run.finished_at is not None
        assert run.outcome.output == ending.output

    async def test_a_repeated_finish_is_harmless(self, ledger: RunLedger) -> None:
        """The first ending stays, and the next run is named until somebody took it."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        waiting = (await ledger.submit(new_run(name))).run
        first = await ledger.finish(lease, COMPLETED)
        assert first is not None
        assert first.run_id == waiting.id
        assert await ledger.finish(lease, COMPLETED) == first
        await take(ledger, waiting.id, "worker-2")
        assert await ledger.finish(lease, COMPLETED) is None
        assert len(await ledger.list_events(lease.run.id)) == 3

    async def test_only_the_holder_of_the_lease_finishes(self, ledger: RunLedger) -> None:
        """A lease that was given back or lost can neither finish nor hand over."""
        old = await lease_new(ledger)
        await ledger.hand_over(old)
        with pytest.raises(FencedError):
            await ledger.finish(old, COMPLETED)
        new = await take(ledger, old.run.id, "worker-2")
        for ending in (COMPLETED, CANCELLED):
            with pytest.raises(FencedError):
                await ledger.finish(old, ending)
        with pytest.raises(FencedError):
            await ledger.hand_over(old)
        assert await ledger.get(old.run.id) == new.run
        await ledger.finish(new, COMPLETED)
        with pytest.raises(FencedError):
            await ledger.finish(old, COMPLETED)

    async def test_an_older_lease_of_the_same_worker_is_refused(self, ledger: RunLedger) -> None:
        """The worker alone does not do: a task of it that was forgotten must not end the run."""
        old = await lease_new(ledger)
        await ledger.hand_over(old)
        new = await take(ledger, old.run.id)
        with pytest.raises(FencedError):
            await ledger.finish(old, COMPLETED)
        with pytest.raises(FencedError):
            await ledger.hand_over(old)
        await ledger.finish(new, COMPLETED)
        with pytest.raises(FencedError):
            await ledger.finish(old, COMPLETED)

    async def test_a_lease_of_somebody_else_is_refused(self, ledger: RunLedger) -> None:
        """The token alone does not do: the worker has to be the one that holds it."""
        lease = await lease_new(ledger)
        with pytest.raises(FencedError):
            await ledger.finish(lease.model_copy(update={"worker_id": "worker-2"}), COMPLETED)
        assert (await ledger.get(lease.run.id)).status is RunStatus.RUNNING

    async def test_hand_over_makes_the_run_ready_again(self, ledger: RunLedger) -> None:
        """It counts as an attempt and not as a crash, and the first start stays the start."""
        lease = await lease_new(ledger)
        wake_up = await ledger.hand_over(lease)
        assert (wake_up.run_id, wake_up.agent, wake_up.priority) == (lease.run.id, AGENT, 5)
        assert await ledger.hand_over(lease) == wake_up
        run = await ledger.get(lease.run.id)
        assert (run.status, run.attempts, run.crashes) == (RunStatus.QUEUED, 1, 0)
        again = await take(ledger, lease.run.id, "worker-2")
        assert (again.run.attempts, again.run.started_at) == (2, lease.run.started_at)

    async def test_an_ended_run_is_not_handed_over(self, ledger: RunLedger) -> None:
        """A final status never changes."""
        lease = await lease_new(ledger)
        await ledger.finish(lease, COMPLETED)
        with pytest.raises(FencedError):
            await ledger.hand_over(lease)
        assert (await ledger.cancel(lease.run.id)).result is CancelResult.ALREADY_ENDED
        assert (await ledger.get(lease.run.id)).status is RunStatus.COMPLETED

    async def test_a_finished_lease_is_not_held_any_more(self, ledger: RunLedger) -> None:
        """The holder's sweep names what it holds, and no longer what it gave back or finished."""
        held, finished, returned = [await lease_new(ledger) for _ in range(3)]
        await ledger.finish(finished, COMPLETED)
        await ledger.hand_over(returned)
        swept = await ledger.sweep("worker-1", agents=[AGENT], limit=0)
        assert swept.leased == {held.run.id}
        assert (await ledger.sweep("worker-2", agents=[AGENT], limit=0)).leased == frozenset()

    async def test_what_cannot_be_a_run_id_is_refused(self, ledger: RunLedger) -> None:
        """A string from anywhere is an error that says so, not an unknown run."""
        for nonsense in ("", "run-1", "run-g-" + "0" * 32, "../x"):
            with pytest.raises(InvalidIdError):
                await ledger.get(nonsense)
            with pytest.raises(InvalidIdError):
                await ledger.lease(nonsense, "worker-1", agents=[AGENT])
            with pytest.raises(InvalidIdError):
                await ledger.cancel(nonsense)
            with pytest.raises(InvalidIdError):
                await ledger.withdraw(nonsense)
            with pytest.raises(InvalidIdError):
                await ledger.list_events(nonsense)

    async def test_an_unknown_run_is_named_in_the_error(self, ledger: RunLedger) -> None:
        """`get` and `cancel` of a run that does not exist raise."""
        run_id = run_name()
        with pytest.raises(UnknownRunError, match=run_id):
            await ledger.get(run_id)
        with pytest.raises(UnknownRunError, match=run_id):
            await ledger.cancel(run_id)
