"""With encryption on, nothing that is said can be read anywhere but where the keys are.

Real workers and a client, on Redis servers of their own whose append-only files are read as they
lie on the disk: a run that streams, calls tools, fails in one, loses its worker to SIGKILL and is
continued; one that is cancelled; one that fails. All of it watched live.
"""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis

from agent_client import (
    AsyncAgentClient,
    AsyncRun,
    DeltaEvent,
    MessageEvent,
    RunStatus,
    SealKeyError,
)
from agent_worker.testing import WorkerProcess
from shared.embedded_redis import EmbeddedRedis, find_redis_server
from shared.message import Message, ToolOutcome
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import check_closed, started, wait_traced
from tests.celery_nodes.fixtures import REPOSITORY
from tests.secret_agents import (
    ANSWER,
    ARGUMENT,
    INPUT,
    MARKERS,
    METADATA,
    RESULT,
    RUN_ERROR,
    STREAMED,
    TOOL_ERROR,
)
from tests.services import missing
from tests.traces import FOLDER, executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration, pytest.mark.slow]

RESULT_S: Final = 60.0
TIMES: Final = {"lease_s": 2.0, "heartbeat_s": 0.4, "sweep_s": 0.1, "pickup_s": 0.5}


@dataclass
class System:
    """Two Redis servers and two workers, which have the keys or all have none."""

    folder: Path
    is_sealed: bool
    broker: EmbeddedRedis
    store: EmbeddedRedis
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def sealing(self) -> dict[str, str]:
        if not self.is_sealed:
            return {}
        keys = ("2026-11:" + base64.b64encode(bytes(range(32))).decode(), f"old:{'ab12' * 16}")
        return {"encryption_keys": ",".join(keys), "compression": "zstd"}

    @property
    def settings(self) -> Settings:
        urls = {"redis_url": self.store.url, "broker_url": self.broker.url}
        return Settings.model_validate({**TIMES, **urls, **self.sealing})

    @property
    def traces(self) -> Path:
        return self.folder / "traces"

    def start(self) -> None:
        self.traces.mkdir()
        self.broker.start()
        self.store.start()
        given = {"redis_url": self.store.url, "broker_url": self.broker.url, "log_level": "debug"}
        named = {**TIMES, **given, **self.sealing}
        for number in range(2):
            worker = WorkerProcess(
                "tests.secret_agents",
                environment={
                    FOLDER: str(self.traces),
                    **{f"AGENTS_{name}".upper(): str(value) for name, value in named.items()},
                },
                cwd=REPOSITORY,
                log_path=self.folder / f"worker-{number}.log",
            )
            self.workers.append(worker)
            worker.start()
        for worker in self.workers:
            worker.wait_ready()

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
        for server in (self.broker, self.store):
            server.kill()

    def places(self) -> Iterator[tuple[str, bytes]]:
        """Everything that somebody without the keys may get hold of, and where it is."""
        for name, server in (("store", self.store), ("broker", self.broker)):
            with Redis.from_url(server.url) as client:
                for key in client.scan_iter(count=1000):
                    yield f"{name}: a key", key
                    yield f"{name}: {key!r}", _content(client, key)
        for path in self.folder.rglob("*"):
            if path.is_file() and path.parent != self.traces:
                yield f"file {path.relative_to(self.folder)}", path.read_bytes()


def _content(client: Any, key: bytes) -> bytes:
    """All that lies under a key, of whatever type; nothing if it has gone since it was listed."""
    read: dict[bytes, Callable[[], Any]] = {
        b"none": bytes,
        b"string": lambda: client.get(key),
        b"hash": lambda: client.hgetall(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1, withscores=True),
        b"stream": lambda: client.xrange(key),
    }
    found = read[client.type(key)]()
    return found if isinstance(found, bytes) else repr(found).encode()


def forms(marker: str) -> list[bytes]:
    """A word as it is, and as it stands in base64, wherever it begins there."""
    plain = marker.encode()
    encoded = []
    for before in range(3):
        shifted = base64.b64encode(bytes(before) + plain)
        encoded.append(shifted[4 if before else 0 : -4])
    return [plain, plain.hex().encode(), *encoded]


def find_markers(system: System) -> dict[str, set[str]]:
    """Where each marker word can be read."""
    found: dict[str, set[str]] = {}
    for place, content in system.places():
        for marker in MARKERS:
            if any(form in content for form in forms(marker)):
                found.setdefault(marker, set()).add(place)
    return found


@contextmanager
def run_system(folder: Path, *, is_sealed: bool) -> Iterator[System]:
    if find_redis_server() is None:
        missing("No redis-server or valkey-server on the PATH and no celery-agents[embedded].")
    broker, store = EmbeddedRedis(folder / "broker"), EmbeddedRedis(folder / "store")
    system = System(folder, is_sealed, broker, store)
    try:
        system.start()
        yield system
    finally:
        system.stop()


@pytest.fixture
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    with run_system(tmp_path, is_sealed=getattr(request, "param", True)) as system:
        yield system


@pytest.fixture
async def client(system: System) -> AsyncIterator[AsyncAgentClient]:
    async with AsyncAgentClient(system.settings) as client:
        yield client


@dataclass
class Played:
    """What became of the runs, and what their watcher saw while they went on."""

    told: AsyncRun
    stopped: AsyncRun
    broken: AsyncRun
    deltas: str = ""
    watched: list[Message] = field(default_factory=list)


async def play(system: System, client: AsyncAgentClient) -> Played:
    """A run that outlives its worker, one that is cancelled and one that fails, in one room."""
    told = await client.submit(
        "teller",
        f"tell first {INPUT}",
        conversation_id="room",
        metadata={"note": METADATA},
        idempotency_key="once",
    )
    again = await client.submit(
        "teller",
        f"tell first {INPUT}",
        conversation_id="room",
        metadata={"note": METADATA},
        idempotency_key="once",
    )
    assert again.id == told.id
    stopped = await client.submit("teller", f"stop second {INPUT}", conversation_id="room")
    broken = await client.submit("teller", f"break {INPUT}", conversation_id="room")
    played = Played(told, stopped, broken)
    watching = asyncio.create_task(_watch(played))
    await wait_traced(system.traces, "start", "first")
    pid = next(each["pid"] for each in executions(system.traces) if each["name"] == "first")
    next(worker for worker in system.workers if worker.pid == pid).kill()
    permit(system.traces, "first")
    assert (await told.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    await watching
    await wait_traced(system.traces, "start", "second")
    await stopped.cancel()
    assert (await stopped.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
    assert (await broken.result(timeout_s=RESULT_S)).status is RunStatus.FAILED
    return played


async def _watch(played: Played) -> None:
    async for event in played.told.events():
        if isinstance(event, DeltaEvent):
            played.deltas += event.text
        elif isinstance(event, MessageEvent):
            played.watched.append(event.message)


async def test_nothing_that_is_said_can_be_read_without_the_keys(
    system: System, client: AsyncAgentClient
) -> None:
    """Not in a key or value of Redis, not in its files, not on the queue, not in a log."""
    played = await play(system, client)
    await _settled(system)
    assert find_markers(system) == {}

    run = await played.told.get()
    assert (run.attempts, run.crashes) == (2, 1)
    assert (run.input, run.metadata) == (f"tell first {INPUT}", {"note": METADATA})
    assert run.output == f"{ANSWER} it is"
    failed = (await played.broken.get()).error
    assert failed is not None
    assert RUN_ERROR in failed.message
    assert STREAMED in played.deltas

    history = await client.history("room")
    own = [message for message in history if message.run_id == run.id]
    assert [message.position for message in own] == list(range(len(own)))
    assert own == played.watched, "what was watched live is what was stored"
    said = "".join(message.model_dump_json() for message in history)
    for marker in (INPUT, STREAMED, ARGUMENT, RESULT, TOOL_ERROR, ANSWER, RUN_ERROR):
        assert marker in said
    check_closed(history)
    outcomes = {message.outcome for message in history}
    assert {ToolOutcome.SUCCESS, ToolOutcome.FAILED, ToolOutcome.CANCELLED} <= outcomes
    assert started(system.traces) == ["first", "first", "look", "second", "stumble"], (
        "the tools that had ended were not started again"
    )
    await _keyless_client_is_refused(system, run.id)


async def _keyless_client_is_refused(system: System, run_id: str) -> None:
    """It is told which setting it lacks, and sees nothing that looks like an empty message."""
    keyless = system.settings.model_copy(update={"encryption_keys": None})
    async with AsyncAgentClient(keyless) as client:
        for read in (
            client.history("room"),
            client.run(run_id).get(),
            client.run(run_id).result(timeout_s=5),
            anext(client.watch_conversation("room")),
            client.runs(),
        ):
            with pytest.raises(SealKeyError, match="AGENTS_ENCRYPTION_KEYS"):
                await read


async def _settled(system: System) -> None:
    """Wait until the servers have written everything to their files, and keep the files whole."""
    for server in (system.store, system.broker):
        with Redis.from_url(server.url) as client:
            client.set("written", os.urandom(8).hex())
            wanted = client.get("written")

        async def is_written(server: EmbeddedRedis = server, wanted: Any = wanted) -> bool:
            folder = system.folder / ("store" if server is system.store else "broker")
            files = [path for path in folder.rglob("*") if path.is_file()]
            return any(wanted in path.read_bytes() for path in files)

        await eventually(is_written, timeout_s=10)


@pytest.mark.parametrize("system", [False], indirect=True)
async def test_the_search_finds_what_is_not_encrypted(
    system: System, client: AsyncAgentClient
) -> None:
    """The same without keys: each word is found in Redis and in its files, so the search is one."""
    await play(system, client)
    await _settled(system)
    found = find_markers(system)
    assert found.keys() == set(MARKERS)
    for marker, places in found.items():
        assert any(place.startswith("store: ") for place in places), marker
        assert any(place.startswith("file store") for place in places), marker
    logs = {place for places in found.values() for place in places if ".log" in place}
    assert not logs, "logs hold no messages, with or without keys"
