"""Submitting, finding and reading: what the client does with a ledger, a store and a doorbell."""

import asyncio

import pytest
from structlog.testing import capture_logs

from agent_client import (
    AsyncAgentClient,
    ConversationConfig,
    NotDistributedError,
    NoWorkerError,
    RequestError,
    Role,
    RunStatus,
    Settings,
    UnknownAgentError,
)
from agent_client.roster import FRESH_S
from shared.backend import Backend
from shared.errors import (
    BrokerUnavailableError,
    ConversationBusyError,
    IdempotencyConflictError,
    InvalidIdError,
    StoreUnavailableError,
    UnknownRunError,
)
from shared.identifier import new_run_id
from shared.ledger.protocol import Submission, WakeUp
from shared.run import NewRun
from tests.unit.client.puppet import AGENT, Doorbell, Puppet


async def test_an_accepted_run_is_in_the_ledger_and_rung_for(
    client: AsyncAgentClient, puppet: Puppet, doorbell: Doorbell
) -> None:
    """When submit returns, the ledger holds the request as it was made, and a worker was rung."""
    run = await client.submit(
        AGENT, "hello", conversation_id="web:ada", metadata={"n": 1}, priority=2, max_rounds=3
    )
    record = await run.get()
    assert (record.status, record.input, record.conversation_id) == ("queued", "hello", "web:ada")
    assert (record.metadata, record.priority, record.options.max_rounds) == ({"n": 1}, 2, 3)
    assert doorbell.rung == [run.id]


async def test_a_run_behind_another_is_not_rung_for(
    client: AsyncAgentClient, puppet: Puppet, doorbell: Doorbell
) -> None:
    """A ring for a run that nobody may take yet would only cost a worker time."""
    first = await client.submit(AGENT, "one", conversation_id="web:ada")
    await client.submit(AGENT, "two", conversation_id="web:ada")
    assert doorbell.rung == [first.id]


async def test_an_unknown_agent_is_refused_with_the_names_that_are_served(
    client: AsyncAgentClient, backend: Backend, puppet: Puppet
) -> None:
    """The error names what live workers serve and what was probably meant; nothing is stored."""
    await Puppet(backend, "researcher", name="puppet-2").beat()
    with pytest.raises(UnknownAgentError, match=r"mean 'clerk'\?.*clerk, researcher"):
        await client.submit("clark", "hello")
    assert await client.runs() == []


async def test_an_agent_that_a_new_worker_serves_is_known_at_once(
    client: AsyncAgentClient, backend: Backend, puppet: Puppet
) -> None:
    """A refusal never comes from memory: workers are read again before it."""
    await client.submit(AGENT, "hello")
    await Puppet(backend, "researcher", name="puppet-2").beat()
    run = await client.submit("researcher", "hello")
    assert (await run.get()).agent == "researcher"


async def test_submits_share_a_look_at_the_workers(
    client: AsyncAgentClient,
    backend: Backend,
    puppet: Puppet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred submits within the time that an answer is fresh for read the workers once."""
    reads = 0
    list_workers = backend.ledger.list_workers

    async def counted() -> object:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)  # as a store does that is asked over a network
        return await list_workers()

    monkeypatch.setattr(backend.ledger, "list_workers", counted)
    await asyncio.gather(*(client.submit(AGENT, "hello") for _ in range(100)))
    assert FRESH_S >= 1
    assert reads == 1


async def test_without_a_worker_the_run_waits_and_the_log_says_so_once(
    client: AsyncAgentClient,
) -> None:
    """No worker is no error, but somebody should know; not with every submit, though."""
    with capture_logs() as logs:
        runs = [await client.submit(AGENT, "hello") for _ in range(3)]
    assert [await run.status() for run in runs] == [RunStatus.QUEUED] * 3
    assert [entry["event"] for entry in logs] == ["worker.none_alive"]


async def test_who_needs_a_worker_is_refused_without_one(client: AsyncAgentClient) -> None:
    """require_worker turns waiting into an error, and nothing is stored."""
    with pytest.raises(NoWorkerError, match="agent-worker"):
        await client.submit(AGENT, "hello", require_worker=True)
    assert await client.runs() == []


async def test_what_is_invalid_is_refused_before_anything_is_read(
    backend: Backend, doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad request costs no round trip."""

    async def unreachable() -> object:
        raise AssertionError("the ledger was read")

    monkeypatch.setattr(backend.ledger, "list_workers", unreachable)
    client = AsyncAgentClient(Settings(), backend=backend, dispatcher=doorbell)
    with pytest.raises(InvalidIdError):
        await client.submit("no such thing", "hello")


async def test_one_idempotency_key_gives_one_run_and_rings_again(
    client: AsyncAgentClient, puppet: Puppet, doorbell: Doorbell
) -> None:
    """The second submit finds the run; since it still waits, its first ring may have been lost."""
    first = await client.submit(AGENT, "hello", idempotency_key="order-17")
    second = await client.submit(AGENT, "hello", idempotency_key="order-17")
    assert second == first
    assert len(await client.runs()) == 1
    assert doorbell.rung == [first.id, first.id]


async def test_a_run_that_is_being_executed_is_not_rung_for_again(
    client: AsyncAgentClient, puppet: Puppet, doorbell: Doorbell
) -> None:
    """A repeated submit finds the running run and leaves it alone."""
    first = await client.submit(AGENT, "hello", idempotency_key="order-17")
    await puppet.take(first.id)
    assert await client.submit(AGENT, "hello", idempotency_key="order-17") == first
    assert doorbell.rung == [first.id]


async def test_one_key_for_two_requests_is_an_error(
    client: AsyncAgentClient, puppet: Puppet
) -> None:
    """A key that was used for another input is refused."""
    await client.submit(AGENT, "hello", idempotency_key="order-17")
    with pytest.raises(IdempotencyConflictError):
        await client.submit(AGENT, "good bye", idempotency_key="order-17")


async def test_a_busy_conversation_can_be_a_reason_to_refuse(
    client: AsyncAgentClient, puppet: Puppet
) -> None:
    """on_busy reaches the ledger."""
    await client.submit(AGENT, "one", conversation_id="web:ada")
    with pytest.raises(ConversationBusyError):
        await client.submit(AGENT, "two", conversation_id="web:ada", on_busy="reject")


async def test_when_the_broker_is_away_the_run_was_never_submitted(
    client: AsyncAgentClient, puppet: Puppet, doorbell: Doorbell
) -> None:
    """The error means that nothing is stored, so that trying again cannot make two runs of it."""
    doorbell.is_broken = True
    with pytest.raises(BrokerUnavailableError):
        await client.submit(AGENT, "hello", idempotency_key="order-17")
    assert await client.runs() == []
    doorbell.is_broken = False
    run = await client.submit(AGENT, "other", idempotency_key="order-17")
    assert doorbell.rung == [run.id]


async def test_a_submit_that_is_cancelled_while_it_rings_leaves_nothing_behind(
    client: AsyncAgentClient, puppet: Puppet, doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who gave up waiting has no handle, so no run may go on without anybody knowing."""
    is_ringing = asyncio.Event()

    async def ring_for_ever(_: list[WakeUp]) -> None:
        is_ringing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(doorbell, "ring", ring_for_ever)
    submitting = asyncio.create_task(client.submit(AGENT, "hello"))
    await is_ringing.wait()
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert await client.runs() == []


async def test_a_run_that_a_sweep_took_before_it_could_be_withdrawn_is_accepted(
    client: AsyncAgentClient, puppet: Puppet, doorbell: Doorbell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker found the run although the ring failed: the caller gets its handle."""

    async def taken_meanwhile(wake_ups: list[WakeUp]) -> None:
        await puppet.take(wake_ups[0].run_id)
        raise BrokerUnavailableError("The broker is away.")

    monkeypatch.setattr(doorbell, "ring", taken_meanwhile)
    run = await client.submit(AGENT, "hello")
    assert await run.status() is RunStatus.RUNNING


async def test_a_run_accepted_earlier_is_not_withdrawn_when_the_broker_is_away(
    client: AsyncAgentClient, puppet: Puppet, doorbell: Doorbell
) -> None:
    """A failed ring on a repeated submit must not take back what was promised before."""
    first = await client.submit(AGENT, "hello", idempotency_key="order-17")
    doorbell.is_broken = True
    assert await client.submit(AGENT, "hello", idempotency_key="order-17") == first
    assert await first.status() is RunStatus.QUEUED


async def test_a_store_that_is_away_is_a_named_error(
    client: AsyncAgentClient,
    backend: Backend,
    puppet: Puppet,
    doorbell: Doorbell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The store's error reaches the caller, and nobody is rung."""

    async def away(new: NewRun) -> Submission:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(backend.ledger, "submit", away)
    with pytest.raises(StoreUnavailableError):
        await client.submit(AGENT, "hello")
    assert doorbell.rung == []


async def test_a_handle_by_id_reads_nothing_and_refuses_rubbish(client: AsyncAgentClient) -> None:
    """Any well-formed id gives a handle; whether the run exists shows when it is asked."""
    unknown = client.run(new_run_id(3))
    with pytest.raises(UnknownRunError):
        await unknown.get()
    for rubbish in ("", "run-3", "../etc", new_run_id(3) + "0"):
        with pytest.raises(InvalidIdError):
            client.run(rubbish)


async def test_handles_of_one_run_are_equal(client: AsyncAgentClient, puppet: Puppet) -> None:
    """A handle is a value: equal and hashable by the run's id, which is all that it shows."""
    run = await client.submit(AGENT, "hello")
    assert {run, client.run(run.id)} == {run}
    assert repr(run) == f"AsyncRun(id={run.id!r})"


async def test_runs_are_found_by_conversation_status_and_agent(
    client: AsyncAgentClient, puppet: Puppet
) -> None:
    """Filters reach the ledger; one status may be given without a collection around it."""
    alone = await client.submit(AGENT, "one")
    within = await client.submit(AGENT, "two", conversation_id="web:ada")
    await puppet.take(alone.id)

    async def found(**filters: object) -> list[str]:
        return [run.id for run in await client.runs(**filters)]  # type: ignore[arg-type]  # mixed

    assert await found() == [within.id, alone.id]
    assert await found(conversation_id="web:ada") == [within.id]
    assert await found(status=RunStatus.RUNNING) == [alone.id]
    assert await found(status=[RunStatus.QUEUED, RunStatus.RUNNING]) == [within.id, alone.id]
    assert await found(agent="other") == []
    assert await found(before=within.id) == [alone.id]


async def test_a_conversation_can_be_read_in_parts_and_cleared(
    client: AsyncAgentClient, puppet: Puppet
) -> None:
    """history gives cursors, limits and roles to the store; clear empties it."""
    run = await client.submit(AGENT, "hello", conversation_id="web:ada")
    await puppet.take(run.id)
    await puppet.say(run.id, "one", "two")
    everything = await client.history("web:ada")
    assert [message.text for message in everything] == ["hello", "one", "two"]
    assert await client.history("web:ada", limit=1) == everything[-1:]
    assert await client.history("web:ada", after=everything[0].cursor, limit=1) == everything[1:2]
    assert await client.history("web:ada", before=everything[1].cursor) == everything[:1]
    assert await client.history("web:ada", roles=[Role.ASSISTANT]) == everything[1:]
    assert await client.conversations() == ["web:ada"]
    assert await client.clear("web:ada") == 3
    assert await client.history("web:ada") == []


async def test_live_workers_and_their_agents_are_listed(
    client: AsyncAgentClient, backend: Backend, puppet: Puppet
) -> None:
    """An agent that two workers serve is listed once."""
    await Puppet(backend, AGENT, "author", name="puppet-2").beat()
    assert sorted(worker.id for worker in await client.workers()) == ["puppet-1", "puppet-2"]
    assert [agent.name for agent in await client.agents()] == ["author", AGENT]


def test_memory_and_remote_workers_do_not_go_together(backend: Backend) -> None:
    """Conversations that remote workers cannot see are an error when the client is built."""
    remote = Doorbell(is_distributed=True)
    memory = ConversationConfig(backend="memory")
    with pytest.raises(NotDistributedError, match=r"AsyncAgentClient\.local"):
        AsyncAgentClient(Settings(), backend=backend, dispatcher=remote)
    with pytest.raises(NotDistributedError, match=r"AsyncAgentClient\.local"):
        AsyncAgentClient(Settings(), backend=backend)
    with pytest.raises(NotDistributedError, match=r"backend='redis'"):
        AsyncAgentClient(Settings(), conversation=memory)
    with pytest.raises(NotDistributedError, match=r"backend='redis'"):
        AsyncAgentClient(Settings(), conversation=memory, dispatcher=remote)


async def test_what_was_passed_in_stays_open(backend: Backend, doorbell: Doorbell) -> None:
    """A client closes what it opened, not what somebody else may still use."""
    async with AsyncAgentClient(Settings(), backend=backend, dispatcher=doorbell) as client:
        await client.submit(AGENT, "hello")
    assert not doorbell.is_closed
    async with backend.ledger.notifications.subscribe("still open"):
        pass


async def test_a_closed_client_takes_no_runs(client: AsyncAgentClient) -> None:
    """Closing twice is harmless; a submit afterwards is an error that says so."""
    await client.aclose()
    await client.aclose()
    with pytest.raises(RequestError, match="closed"):
        await client.submit(AGENT, "hello")


async def test_nothing_connects_before_the_first_use() -> None:
    """A client for a Redis that does not exist can be built, asked for handles, and closed."""
    settings = Settings(redis_url="redis://127.0.0.1:1/0", redis_timeout_s=0.5)  # type: ignore[arg-type]  # a URL becomes a secret
    async with AsyncAgentClient(settings) as client:
        run = client.run(new_run_id(3))
        with pytest.raises(StoreUnavailableError):
            await run.get()
