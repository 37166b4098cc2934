"""What every run ledger guarantees about deleting the runs of a conversation."""

import pytest

from shared.backend import Backend
from shared.errors import ConversationBusyError, FencedError, UnknownRunError
from shared.event import DeltaEvent
from shared.ledger.protocol import RunLedger
from shared.run import RunStatus
from shared.testing.conversation.value import conversation_name
from shared.testing.waiting import eventually
from tests.contract.harness import Harness, RedisHarness
from tests.contract.values import COMPLETED, is_ready, lease_new, new_run, take


class RunRemovalContract:
    """`remove_runs`."""

    @pytest.fixture
    def ledger(self, backend: Backend) -> RunLedger:
        return backend.ledger

    async def test_all_that_is_kept_of_ended_runs_goes(self, ledger: RunLedger) -> None:
        """Records, events, keys and their places in lists; other conversations stay."""
        name, other = conversation_name(), conversation_name()
        removed = []
        for number in range(3):
            run = (await ledger.submit(new_run(name, idempotency_key=f"k{number}"))).run
            lease = await take(ledger, run.id)
            await ledger.publish(
                lease, [DeltaEvent(run_id=run.id, text="x", position=1, attempt=1)]
            )
            await ledger.finish(lease, COMPLETED)
            removed.append(run.id)
        kept = await lease_new(ledger, other)
        await ledger.finish(kept, COMPLETED)
        assert await ledger.remove_runs(name) == 3
        for run_id in removed:
            with pytest.raises(UnknownRunError):
                await ledger.get(run_id)
            assert await ledger.list_events(run_id) == []
        assert await ledger.list_runs(conversation_id=name) == []
        assert [run.id for run in await ledger.list_runs()] == [kept.run.id]
        assert await ledger.list_conversations() == [other]
        assert await ledger.remove_runs(name) == 0
        again = await ledger.submit(new_run(name, idempotency_key="k0"))
        assert again.is_new, "its key is free"
        assert again.run.id not in removed
        assert await is_ready(ledger, again.run.id)

    @pytest.mark.parametrize("is_leased", [True, False])
    async def test_while_a_run_has_not_ended_nothing_is_deleted(
        self, ledger: RunLedger, is_leased: bool
    ) -> None:
        """Running, ready or waiting; the error names the one that holds the conversation."""
        name = conversation_name()
        ended = await lease_new(ledger, name)
        await ledger.finish(ended, COMPLETED)
        run = (await ledger.submit(new_run(name))).run
        lease = await take(ledger, run.id) if is_leased else None
        with pytest.raises(ConversationBusyError) as refused:
            await ledger.remove_runs(name)
        assert refused.value.run_id == run.id
        assert (await ledger.get(ended.run.id)).status is RunStatus.COMPLETED
        if lease is not None:
            await ledger.finish(lease, COMPLETED)
        else:
            await ledger.cancel(run.id)
        assert await ledger.remove_runs(name) == 2

    async def test_a_late_worker_brings_nothing_back(self, ledger: RunLedger) -> None:
        """What it repeats is refused, and a run that comes after is its own."""
        name = conversation_name()
        lease = await lease_new(ledger, name)
        await ledger.finish(lease, COMPLETED)
        await ledger.remove_runs(name)
        with pytest.raises(FencedError):
            await ledger.finish(lease, COMPLETED)
        with pytest.raises(FencedError):
            await ledger.hand_over(lease)
        await ledger.publish(
            lease, [DeltaEvent(run_id=lease.run.id, text="x", position=1, attempt=1)]
        )
        assert await ledger.list_events(lease.run.id) == []
        later = await lease_new(ledger, name)
        assert later.fencing_token > lease.fencing_token

    async def test_nothing_in_the_store_names_the_conversation(self, harness: Harness) -> None:
        """Not even keys of runs that were forgotten before, whose time had come."""
        if not isinstance(harness, RedisHarness):
            return  # a store in memory has no keys that could stay behind
        ledger = harness.open(run_ttl_s=0.05, idempotency_ttl_s=3600).ledger
        name = conversation_name()
        for number in range(2):
            run = (await ledger.submit(new_run(name, idempotency_key=f"k{number}"))).run
            await ledger.finish(await take(ledger, run.id), COMPLETED)

        async def is_forgotten() -> bool:
            return await ledger.list_runs(conversation_id=name) == []

        await eventually(is_forgotten)
        await ledger.remove_runs(name)
        async with harness._connect() as client:
            keys = [key async for key in client.scan_iter(match=f"*{harness.key_prefix}*")]
        assert [key for key in keys if name in key.decode()] == []
