"""Promise 9: two versions of the code side by side; nothing that is stored is misread.

The newer release is this one with its versions raised (`tests.newer_release`): what it writes looks
the same and may mean something else, which is the case in which guessing does harm.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from kombu import Connection, Producer

from agent_client import AsyncAgentClient, AsyncRun, CancelResult, NewerVersionError, RunStatus
from agent_worker.testing import WorkerProcess
from shared.celery_app import WAKE_TASK, build_queue, create_celery_app
from shared.redis_backend import build_redis_backend
from shared.testing.waiting import eventually
from shared.version import FORMAT_VERSION
from tests.acceptance.conftest import play, started
from tests.acceptance.deployment import NEWER_RELEASE, Deployment, deploy
from tests.celery_nodes.fixtures import REPOSITORY
from tests.contract.values import new_run
from tests.newer_release import NEWER

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S: Final = 40.0


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Deployment]:
    """A system without workers, whose leases outlast the test."""
    with deploy(tmp_path) as system:
        yield system


@pytest.fixture
async def client(system: Deployment) -> AsyncIterator[AsyncAgentClient]:
    """A client of this release."""
    async with AsyncAgentClient(system.settings) as client:
        yield client


async def test_a_run_of_a_newer_client_waits_for_a_newer_worker(
    system: Deployment, client: AsyncAgentClient
) -> None:
    """Old workers leave it alone, say so, and execute everything else; cancelling it works."""
    old = await system.add(concurrency=1)
    newer = [await _submit_newer(system, play([("note", f"newer-{n}")])) for n in range(2)]
    runs = [await client.submit("script", play([("note", f"old-{n}")])) for n in range(3)]
    for run in runs:
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    entry = await _warning(old)
    assert set(entry["for_runs"]) <= set(newer)
    assert (entry["needs_version"], entry["worker_version"]) == (NEWER, FORMAT_VERSION)
    with pytest.raises(NewerVersionError, match="update"):
        await client.run(newer[0]).get()
    assert await client.run(newer[0]).cancel() is CancelResult.CANCELLED
    await system.add(is_newer=True)

    async def are_executed() -> bool:
        return started(system.traces) == ["newer-1", "old-0", "old-1", "old-2"]

    await eventually(are_executed, timeout_s=RESULT_S)
    versions = {worker.format_version for worker in await client.workers()}
    assert versions == {FORMAT_VERSION, NEWER}


async def test_a_history_of_newer_messages_is_left_to_newer_workers(
    system: Deployment, client: AsyncAgentClient
) -> None:
    """An old worker that comes upon them gives the run back, uncounted, instead of guessing."""
    newer = await system.add(is_newer=True)
    first = await client.submit("script", play([("note", "first")]), conversation_id="mixed")
    await first.result(timeout_s=RESULT_S)
    newer.terminate()
    await asyncio.to_thread(newer.wait)
    old = await system.add()
    with pytest.raises(NewerVersionError, match="update"):
        await client.history("mixed")
    stopped = await client.submit("script", play(), conversation_id="mixed")
    await _declined(stopped)
    assert await stopped.cancel() is CancelResult.CANCELLED
    waiting = await client.submit("script", play([("note", "second")]), conversation_id="mixed")
    await _declined(waiting)
    assert (await _warning(old))["needs_version"] == NEWER
    await system.add(is_newer=True)
    assert (await waiting.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    run = await waiting.get()
    assert (run.attempts, run.crashes) == (1, 0)
    assert started(system.traces) == ["first", "second"]


async def test_rings_of_another_form_stop_no_worker(
    system: Deployment, client: AsyncAgentClient
) -> None:
    """A ring that says more is heard; other tasks and messages of no known form are refused."""
    settings = system.settings
    worker = await system.add()
    app = create_celery_app(settings)
    queue = settings.queue_of("script")
    app.send_task("celery_agents.rouse", args=("run-x",), queue=queue)
    app.send_task("celery_agents.rouse", kwargs={"run": {"id": 1}}, queue=queue)
    with Connection(settings.effective_broker_url, transport_options=_options(app)) as connection:
        producer = Producer(connection, serializer="json")
        producer.publish(
            {"ring": 7}, routing_key=queue, exchange=queue, declare=[build_queue(queue)]
        )
    run = await _submit_in_silence(system, play([("note", "a")]))
    app.send_task(WAKE_TASK, args=(run, "more"), queue=queue)
    app.send_task(WAKE_TASK, args=(run,), kwargs={"deadline": 3}, queue=queue, headers={"form": 2})
    await asyncio.to_thread(app.close)
    outcome = await client.run(run).result(timeout_s=RESULT_S)
    assert outcome.status is RunStatus.COMPLETED
    assert worker.log().count("ring.malformed") == 4, "each of the others is refused, and logged"
    assert worker.is_running


async def _submit_newer(system: Deployment, script: str) -> str:
    """Submit a run as a client of the newer release; return its id."""
    settings = system.settings
    command = [sys.executable, "-m", *NEWER_RELEASE, "agent_client.cli", "submit", "--detach"]
    command += ["--redis-url", settings.redis_url.get_secret_value()]
    command += ["--broker-url", settings.effective_broker_url, "script", script]
    done = await asyncio.to_thread(
        subprocess.run, command, cwd=REPOSITORY, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


async def _submit_in_silence(system: Deployment, script: str) -> str:
    """Submit a run that nobody is rung for, and that no sweep takes; return its id."""
    backend = build_redis_backend(system.settings.model_copy(update={"pickup_s": 600.0}))
    submission = await backend.ledger.submit(new_run(agent="script", input=script))
    await backend.aclose()
    return submission.run.id


async def _declined(run: AsyncRun) -> None:
    """Wait until an old worker has given the run back; it is as if it had never had it."""

    async def is_declined() -> bool:
        record = await run.get()
        return record.status is RunStatus.QUEUED and record.needs_version == NEWER

    await eventually(is_declined, timeout_s=RESULT_S)
    assert (await run.get()).attempts == 0


async def _warning(worker: WorkerProcess) -> dict[str, Any]:
    """What a worker says about runs that it is too old for, once it does."""

    async def entry() -> dict[str, Any] | None:
        lines = [line for line in worker.log().splitlines() if "run.needs_newer_worker" in line]
        return json.loads(lines[-1]) if lines else None

    found = await eventually(entry, timeout_s=RESULT_S)
    assert found is not None
    return found


def _options(app: Any) -> dict[str, Any]:
    options: dict[str, Any] = app.conf.broker_transport_options
    return options
