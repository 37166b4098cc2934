"""Messages, runs and workers for the contract suites."""

import time
from datetime import UTC, datetime
from typing import Any

from shared.identifier import new_run_id, partition_of
from shared.ledger.protocol import RunLedger
from shared.run import AgentInfo, Ending, Lease, NewRun, RunStatus, WorkerInfo
from shared.testing.waiting import eventually

AGENT = "clerk"
COMPLETED = Ending(status=RunStatus.COMPLETED, output="done")
CANCELLED = Ending(status=RunStatus.CANCELLED)


def new_run(conversation_id: str | None = None, **fields: Any) -> NewRun:
    """A run as a client makes it."""
    partition = partition_of(conversation_id) if conversation_id is not None else 7
    asked = {"agent": AGENT, "input": "hello"} | fields
    return NewRun(id=new_run_id(partition), conversation_id=conversation_id, **asked)


def worker(worker_id: str = "worker-1", *agents: str) -> WorkerInfo:
    """A worker as it announces itself."""
    return WorkerInfo(
        id=worker_id,
        hostname="host",
        pid=1,
        version="1",
        concurrency=10,
        agents=tuple(AgentInfo(name=name, queue="agents") for name in agents or (AGENT,)),
        started_at=datetime.now(UTC),
    )


async def lease_new(
    ledger: RunLedger, conversation_id: str | None = None, worker_id: str = "worker-1"
) -> Lease:
    """Submit a run and let a live worker take it."""
    submission = await ledger.submit(new_run(conversation_id))
    return await take(ledger, submission.run.id, worker_id)


async def take(ledger: RunLedger, run_id: str, worker_id: str = "worker-1") -> Lease:
    """Let a live worker lease a run that is ready."""
    await ledger.beat(worker(worker_id))
    lease = await ledger.lease(run_id, worker_id, agents=[AGENT])
    assert lease is not None, f"{run_id} cannot be leased"
    return lease


async def is_ready(ledger: RunLedger, run_id: str) -> bool:
    """Whether a worker could lease the run: one that does not serve it makes it overdue at once."""
    assert await ledger.lease(run_id, "prober", agents=[]) is None
    found = await ledger.sweep("prober", agents=[AGENT], limit=1000)
    return run_id in {*found.overdue, *found.suspects}


async def next_millisecond() -> None:
    """Wait until the clock of this machine shows another millisecond."""
    before = time.time_ns() // 1_000_000

    async def is_later() -> bool:
        return time.time_ns() // 1_000_000 > before + 1

    await eventually(is_later)
