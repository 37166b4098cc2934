"""What the contract suites do not show of the in-memory stores: time moves, memory is freed."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.conversation.memory import MemoryConversationStore
from shared.conversation.protocol import Writer
from shared.errors import NotDistributedError, UnknownRunError
from shared.ledger.memory import MemoryRunLedger
from shared.memory_backend import build_memory_backend
from shared.notification.memory import MemoryNotifications
from shared.settings import Settings
from shared.testing.conversation.value import conversation_name, imported, messages
from tests.contract.values import AGENT, COMPLETED, new_run, take, worker


class MovableClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def ledger(settings: Settings, clock: MovableClock) -> MemoryRunLedger:
    return MemoryRunLedger(MemoryNotifications(), settings, clock=clock)


@pytest.fixture
def store(clock: MovableClock) -> MemoryConversationStore:
    return MemoryConversationStore(MemoryNotifications(), clock=clock)


def held(*stores: object) -> int:
    """How many entries there are in all collections of the objects, and of those within them."""
    total = 0
    for one in stores:
        for value in vars(one).values():
            if isinstance(value, dict | list | set):
                total += len(value)
            elif type(value).__module__.startswith("shared.memory"):
                total += held(value)
    return total


class TestTime:
    async def test_times_are_those_of_the_clock(
        self, ledger: MemoryRunLedger, clock: MovableClock
    ) -> None:
        """Created, started and finished each when the clock said so, and no other clock."""
        submitted = (await ledger.submit(new_run())).run
        clock.move(1)
        lease = await take(ledger, submitted.id)
        clock.move(1)
        await ledger.finish(lease, COMPLETED)
        run = await ledger.get(submitted.id)
        assert run.started_at is not None
        assert run.finished_at is not None
        assert run.started_at - run.created_at == timedelta(seconds=1)
        assert run.finished_at - run.created_at == timedelta(seconds=2)

    async def test_the_bounds_are_exact(
        self, ledger: MemoryRunLedger, clock: MovableClock, settings: Settings
    ) -> None:
        """Overdue from `pickup_s` on, lost from `lease_s` on, forgotten from `run_ttl_s` on."""
        run = (await ledger.submit(new_run())).run
        clock.move(settings.pickup_s - 0.001)
        assert (await ledger.sweep("other", agents=[AGENT], limit=1)).overdue == ()
        clock.move(0.001)
        assert (await ledger.sweep("other", agents=[AGENT], limit=1)).overdue == (run.id,)

        await take(ledger, run.id)
        clock.move(settings.lease_s - 0.001)
        assert (await ledger.sweep("other", agents=[AGENT], limit=1)).reclaimed == ()
        clock.move(0.001)
        assert len((await ledger.sweep("other", agents=[AGENT], limit=1)).reclaimed) == 1

        await ledger.finish(await take(ledger, run.id), COMPLETED)
        clock.move(settings.run_ttl_s - 0.001)
        await ledger.get(run.id)
        clock.move(0.001)
        with pytest.raises(UnknownRunError):
            await ledger.get(run.id)

    async def test_each_event_puts_its_log_off(
        self, ledger: MemoryRunLedger, clock: MovableClock, settings: Settings
    ) -> None:
        """A run that goes on keeps its events, and one that does not is forgotten before it."""
        going_on, waiting = [(await ledger.submit(new_run())).run for _ in range(2)]
        clock.move(settings.event_ttl_s / 2)
        await take(ledger, going_on.id)
        clock.move(settings.event_ttl_s / 2)
        assert len(await ledger.list_events(going_on.id)) == 2
        assert await ledger.list_events(waiting.id) == []

    async def test_the_last_deadline_of_a_conversation_counts(
        self, store: MemoryConversationStore, clock: MovableClock
    ) -> None:
        """Expiry can be put off, and brought forward."""
        await store.append("a", [imported("x")])
        await store.append("b", [imported("x")])
        await store.expire("a", 10)
        await store.expire("a", 20)
        await store.expire("b", 20)
        await store.expire("b", 10)
        clock.move(10)
        assert len(await store.list_messages("a")) == 1
        assert await store.list_messages("b") == []
        clock.move(10)
        assert await store.list_messages("a") == []


async def forget_workers(ledger: MemoryRunLedger, clock: MovableClock, settings: Settings) -> None:
    """Let one worker live on until all others are forgotten; then it goes, too."""
    for _ in range(4):
        clock.move(settings.lease_s / 2)
        await ledger.beat(worker("other"))
    await ledger.retire("other")
    await ledger.sweep("other", agents=[AGENT], limit=0)


class TestMemory:
    async def test_ended_runs_leave_nothing_behind(
        self, ledger: MemoryRunLedger, clock: MovableClock, settings: Settings
    ) -> None:
        """After their time a thousand runs that were alone take no room at all."""
        before = held(ledger)
        for number in range(1000):
            run = (await ledger.submit(new_run(idempotency_key=str(number)))).run
            await ledger.finish(await take(ledger, run.id), COMPLETED)
        assert held(ledger) > before + 1000
        clock.move(settings.run_ttl_s)
        await forget_workers(ledger, clock, settings)
        assert held(ledger) == before

    async def test_a_withdrawn_run_leaves_nothing_behind(self, ledger: MemoryRunLedger) -> None:
        """Not even its conversation."""
        new = new_run(conversation_name(), idempotency_key="k")
        await ledger.submit(new)
        await ledger.withdraw(new.id)
        ledger._lines.clear()  # a conversation's tokens are kept for ever
        assert held(ledger) == 0

    async def test_a_dead_worker_is_forgotten(
        self, ledger: MemoryRunLedger, clock: MovableClock, settings: Settings
    ) -> None:
        """Workers that come and go do not pile up."""
        await ledger.beat(worker("worker-1"))
        await forget_workers(ledger, clock, settings)
        assert held(ledger) == 0

    async def test_expired_conversations_leave_nothing_behind(
        self, store: MemoryConversationStore, clock: MovableClock
    ) -> None:
        """Nor does reading a conversation that nobody wrote to."""
        for number in range(10):
            run = new_run()
            await store.append(run.history_id, messages(run.id, [0]), writer=Writer(run.id, 1))
            await store.expire(run.history_id, number)
        clock.move(10)
        assert await store.list_messages(conversation_name()) == []
        assert await store.clear(conversation_name()) == 0
        assert held(store) == 0

    async def test_a_subscription_that_ends_leaves_nothing_behind(self) -> None:
        """Watchers that come and go do not make the process grow."""
        notifications = MemoryNotifications()
        async with notifications.subscribe("a"), notifications.listen("b"):
            assert held(notifications) == 2
        assert held(notifications) == 0


class TestBackend:
    async def test_it_is_of_this_process_only(self, settings: Settings) -> None:
        """Together with remote workers it is refused, with what to do instead."""
        backend = build_memory_backend(settings)
        assert not backend.ledger.is_distributed
        assert not backend.conversations.is_distributed
        with pytest.raises(NotDistributedError, match="AGENTS_REDIS_URL"):
            backend.check_distributed()
        await backend.aclose()

    async def test_one_notification_source_serves_both(self, settings: Settings) -> None:
        """A watcher of runs and conversations needs one connection, as over Redis."""
        backend = build_memory_backend(settings)
        assert backend.ledger.notifications is backend.conversations.notifications
        await backend.aclose()
