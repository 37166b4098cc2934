"""Managed conversations with real workers: totals are right whoever dies when."""

from collections.abc import AsyncIterator, Iterator

import pytest

from agent_client import AsyncAgentClient, ConversationInactiveError, RunStatus, Usage
from shared.testing.waiting import eventually
from tests.faulty import FaultySystem, run_faulty_system
from tests.priced_agents import CALL_COST
from tests.traces import arm, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 40.0
TOOK = Usage(input_tokens=2_000, output_tokens=200, requests=2, tool_calls=1)
"""A run: two model calls and the tool between them."""


@pytest.fixture(scope="module")
def priced_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultySystem]:
    """Two workers that tidy every half second; idle conversations are closed after two."""
    environment = {"AGENTS_CONVERSATION_IDLE_S": "2", "AGENTS_TIDY_S": "0.5"}
    folder = tmp_path_factory.mktemp("managed")
    with run_faulty_system(folder, "tests.priced_agents", environment=environment) as system:
        yield system


@pytest.fixture
def faulty(priced_system: FaultySystem) -> FaultySystem:
    priced_system.put_right()
    permit(priced_system.traces, "gate")
    return priced_system


@pytest.fixture
async def client(faulty: FaultySystem) -> AsyncIterator[AsyncAgentClient]:
    async with AsyncAgentClient(faulty.settings) as client:
        yield client


async def test_a_session_goes_on_in_its_next_conversation(client: AsyncAgentClient) -> None:
    """The first one is closed and stays readable; each has its own messages and totals."""
    first = await client.managed.open(channel="web", user="ada", agent="priced", title="Tea")
    for _ in range(2):
        run = await client.submit("priced", "hello", conversation_id=first.id)
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    await client.managed.deactivate(first.id)
    with pytest.raises(ConversationInactiveError):
        await client.submit("priced", "hello", conversation_id=first.id)
    second = await client.managed.open(channel="web", user="ada", agent="priced")
    assert second.id == "web:ada:priced:2"
    last = await client.submit("priced", "hello again", conversation_id=second.id)
    await last.result(timeout_s=RESULT_S)
    page = await client.managed.list(user="ada")
    assert [(each.id, each.runs, each.message_count) for each in page.records] == [
        (second.id, 1, 4),
        (first.id, 2, 8),
    ]
    assert [each.known_cost for each in page.records] == [2 * CALL_COST, 4 * CALL_COST]
    assert page.records[1].usage == TOOK + TOOK
    assert len(await client.history(first.id)) == 8
    record = await last.get()
    assert (record.spending.cost, record.usage) == (2 * CALL_COST, TOOK)
    assert [(each.provider, each.model) for each in record.spending.models] == [
        ("openai", "gpt-4o")
    ]


@pytest.mark.parametrize(
    "point",
    ["after-append-1", "after-append-2", "after-append-3", "before-finish", "after-finish"],
)
async def test_totals_are_right_though_a_worker_is_killed(
    client: AsyncAgentClient, faulty: FaultySystem, point: str
) -> None:
    """Each model call counts once, those before the take-over too; each run counts once.

    At once, when the result is there: nobody has to look first, and nothing comes later.
    """
    record = await client.managed.open(channel="web", user=point, agent="priced")
    arm(faulty.traces, point)
    run = await client.submit("priced", "hello", conversation_id=record.id)
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    record = await client.managed.get(record.id)
    assert (record.runs, record.usage, record.message_count) == (1, TOOK, 4)
    assert (record.known_cost, record.unpriced_runs) == (2 * CALL_COST, 0)
    ended = await run.get()
    assert ended.spending.cost == 2 * CALL_COST
    assert ended.spending.tool_s > 0

    async def one_is_dead() -> bool:
        return any(not worker.is_running for worker in faulty.workers)

    await eventually(one_is_dead)  # behind the end, that may be a moment after the result
    faulty.put_right()
    assert (await client.managed.get(record.id)).runs == 1


async def test_workers_close_what_is_idle(client: AsyncAgentClient, faulty: FaultySystem) -> None:
    """Nobody has to open a session, or to call anything."""
    record = await client.managed.open(channel="web", user="idle", agent="priced")
    run = await client.submit("priced", "hello", conversation_id=record.id)
    await run.result(timeout_s=RESULT_S)

    async def is_closed() -> bool:
        return not (await client.managed.get(record.id)).active

    await eventually(is_closed, timeout_s=RESULT_S)
    found = await client.managed.get(record.id)
    assert found.deactivated_at is not None
    assert (found.deactivated_at - found.last_activity_at).total_seconds() >= 2
    assert len(await client.history(record.id)) == 4


async def test_a_purge_leaves_nothing_that_a_worker_could_bring_back(
    client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """Frozen when its run was over, and thawed when all of it is deleted."""
    record = await client.managed.open(channel="web", user="gone", agent="priced")
    run = await client.submit("priced", "hello", conversation_id=record.id)
    await run.result(timeout_s=RESULT_S)
    for worker in faulty.workers:
        worker.freeze()
    purged = await client.managed.purge(record.id)
    assert (purged.messages, purged.runs) == (4, 1)
    for worker in faulty.workers:
        worker.thaw()
    again = await client.managed.open(channel="web", user="gone", agent="priced")
    run = await client.submit("priced", "hello", conversation_id=again.id)
    await run.result(timeout_s=RESULT_S)
    assert (await client.managed.get(again.id)).runs == 1
    assert len(await client.history(again.id)) == 4
