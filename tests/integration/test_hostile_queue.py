"""Whoever reaches the broker can ring, and do nothing else: real workers among hostile messages."""

import asyncio
import base64
import json
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection, Exchange
from pytest_celery import CeleryWorkerCluster
from redis import Redis

from agent_client import AsyncAgentClient, RunStatus
from agent_worker.ring_consumer import INSPECTION
from agent_worker.testing import WorkerProcess
from shared.celery_app import WAKE_TASK, create_celery_app
from shared.identifier import new_run_id
from shared.settings import Settings
from tests.acceptance.conftest import play
from tests.celery_nodes.fixtures import REPOSITORY
from tests.celery_nodes.local import wait_until
from tests.garbage import GARBAGE
from tests.traces import FOLDER, executions

pytestmark = pytest.mark.integration

RESULT_S = 60.0
NO_ENVELOPES: list[Any] = [None, 7, [], {}, {"body": 1, "properties": 2}]
NO_COMMANDS: list[Any] = [
    None, 7, [], "x", {"method": ["shutdown"]}, {"method": "ping", "arguments": 7}
]  # fmt: skip
FLOOD = 2_000


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def envelope(body: bytes, *, headers: Any = None, **properties: Any) -> dict[str, Any]:
    """A message as kombu keeps it in a list of Redis."""
    return {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": WAKE_TASK, "id": uuid4().hex} if headers is None else headers,
        "properties": {
            "delivery_tag": uuid4().hex,
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": "agents"},
            "delivery_mode": 2,
            "priority": 0,
            **properties,
        },
    }


def ring(run_id: str, embedded: Any = None, **headers: Any) -> dict[str, Any]:
    """A ring that says more than a ring should."""
    body = json.dumps([[run_id], {}, embedded or {}]).encode()
    return envelope(body, headers={"task": WAKE_TASK, "id": uuid4().hex, **headers})


def signature(queue: str) -> dict[str, Any]:
    """A task to be sent to a queue that nobody consumes, where a test would find it."""
    return {"task": "loot", "args": [], "kwargs": {}, "options": {"queue": queue}}


def hostile_envelopes(tmp_path: Path) -> list[dict[str, Any]]:
    """Messages that have the form of one and are no rings."""
    bomb = pickle.dumps([[Bomb(tmp_path / "exploded")], {}, {}])
    zeros = zlib.compress(b"[" + b" " * 50_000_000 + b"]")
    forms = [
        {"content-type": "application/x-python-serialize", "content-encoding": "binary"},
        {"content-type": "application/x-yaml"},
        {"content-type": "application/x-msgpack", "content-encoding": "binary"},
    ]
    tasks = ["celery.chord_unlock", "celery.backend_cleanup", "celery.map", "os.system", None, 7]
    yaml = b"!!python/object/apply:os.system ['true']"
    return [
        *(envelope(body) for body in GARBAGE),
        *(envelope(bomb if "python" in form["content-type"] else yaml) | form for form in forms),
        *(envelope(b"[[], {}, {}]", headers={"task": task, "id": "1"}) for task in tasks),
        envelope(b"{}", headers={}),
        envelope(json.dumps({"task": "celery.map", "args": [], "id": "1"}).encode(), headers={}),
        envelope(zeros, headers={"task": WAKE_TASK, "id": "1", "compression": "gzip"}),
        envelope(b"[[1]]", body_encoding="nonsense"),
    ]


async def test_no_message_stops_a_worker_or_makes_it_do_more(
    agents_settings: Settings,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
    tmp_path: Path,
) -> None:
    """Garbage, other tasks, pickles, bombs, tasks to call afterwards, a flood: the workers are the
    same processes afterwards, and real runs were executed in the middle of it."""
    pids = [node.container.process.pid for node in celery_worker_cluster]
    broker: Any = Redis.from_url(agents_settings.effective_broker_url)
    queue = f"{agents_settings.key_prefix}:celery:{agents_settings.key_prefix}"
    hostile = hostile_envelopes(tmp_path)
    broker.lpush(queue, *(json.dumps(one) for one in hostile))
    broker.lpush(queue, *GARBAGE[1:-1])
    broker.lpush(queue, *(json.dumps(one) for one in NO_ENVELOPES))
    for _ in range(FLOOD // 100):
        broker.lpush(queue, *(json.dumps(ring(new_run_id(0))) for _ in range(50)))
        broker.lpush(queue, *(json.dumps(envelope(b"[[7]]")) for _ in range(50)))
    async with AsyncAgentClient(agents_settings) as client:
        runs = [await client.submit("script", play([("note", f"n{n}")])) for n in range(10)]
        for run in runs:
            loaded = ring(
                run.id,
                {
                    "callbacks": [signature("loot")],
                    "errbacks": [signature("loot")],
                    "chain": [signature("loot")],
                    "chord": signature("loot"),
                },
                eta="2999-01-01T00:00:00+00:00",
                expires="2000-01-01T00:00:00+00:00",
                retries=1_000_000,
                timelimit=[0.001, 0.001],
                group="g",
                reply_to="loot",
                ignore_result=False,
            )
            broker.rpush(queue, json.dumps(loaded))
        outcomes = [await run.result(timeout_s=RESULT_S) for run in runs]
    assert {outcome.status for outcome in outcomes} == {RunStatus.COMPLETED}
    assert len(executions(traces)) == 20, "each tool ran once"

    await asyncio.to_thread(wait_until, lambda: broker.llen(queue) == 0, RESULT_S)
    assert [node.container.process.pid for node in celery_worker_cluster] == pids
    assert not (tmp_path / "exploded").exists()
    assert not list(broker.scan_iter("*loot*"))
    broker.close()
    logs = "".join(node.container.process.log(since_start=True) for node in celery_worker_cluster)
    assert logs.count("ring.malformed") >= len(hostile)
    assert "ring.failed" not in logs


@pytest.fixture
def controlled(agents_settings: Settings, traces: Path) -> Iterator[tuple[Settings, WorkerProcess]]:
    """A worker that listens to remote commands, in a system of its own."""
    settings = agents_settings.model_copy(
        update={"key_prefix": f"test-{uuid4().hex}", "remote_control": True}
    )
    worker = WorkerProcess(
        "tests.agents",
        environment={
            "AGENTS_REDIS_URL": settings.redis_url.get_secret_value(),
            "AGENTS_BROKER_URL": settings.effective_broker_url,
            "AGENTS_KEY_PREFIX": settings.key_prefix,
            "AGENTS_REMOTE_CONTROL": "true",
            FOLDER: str(traces),
        },
        cwd=REPOSITORY,
    )
    with worker:
        yield settings, worker


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("shutdown", {}),
    ("pool_grow", {"n": 1000}),
    ("pool_shrink", {"n": 8}),
    ("pool_restart", {"modules": ["os"], "reload": True}),
    ("autoscale", {"max": 1, "min": 0}),
    ("add_consumer", {"queue": "loot"}),
    ("cancel_consumer", {"queue": "QUEUE"}),
    ("rate_limit", {"task_name": WAKE_TASK, "rate_limit": "1/h"}),
    ("time_limit", {"task_name": WAKE_TASK, "hard": 0.001}),
    ("revoke", {"task_id": "x", "terminate": True, "signal": "SIGKILL"}),
    ("revoke_by_stamped_headers", {"headers": {"a": "b"}, "terminate": True}),
    ("terminate", {"task_id": "x", "signal": "SIGKILL"}),
    ("election", {"id": 1, "topic": "x", "action": "y"}),
    ("enable_events", {}),
    ("disable_events", {}),
    ("heartbeat", {}),
    ("hello", {"from_node": "x"}),
    ("conf", {"with_defaults": True}),
    ("report", {}),
    ("query_task", {"ids": ["x"]}),
    ("revoked", {}),
    ("memsample", {}),
    ("memdump", {}),
    ("objgraph", {}),
    ("no_such_command", {}),
]


async def test_remote_commands_look_and_change_nothing(
    controlled: tuple[Settings, WorkerProcess], tmp_path: Path
) -> None:
    """Every command of Celery that is not on the list of harmless ones is refused; so is what is no
    command. The worker is the same process afterwards and executes a run."""
    settings, worker = controlled
    pid = worker.pid
    await asyncio.to_thread(_send_commands, settings, tmp_path / "exploded")
    assert not (tmp_path / "exploded").exists()
    async with AsyncAgentClient(settings) as client:
        run = await client.submit("script", play([("note", "a")]))
        assert (await run.result(timeout_s=RESULT_S)).status is RunStatus.COMPLETED
    assert (worker.pid, worker.is_running) == (pid, True)
    assert worker.log().count("control.refused") == len(COMMANDS)
    assert worker.log().count("control.malformed") > 0


def _send_commands(settings: Settings, bomb: Path) -> None:
    app = create_celery_app(settings)

    def ask(command: str, arguments: dict[str, Any]) -> Any:
        arguments = json.loads(json.dumps(arguments).replace("QUEUE", settings.key_prefix))
        replies: Any = app.control.broadcast(
            command, arguments=arguments, reply=True, limit=1, timeout=20
        )
        [reply] = replies[0].values()
        return reply

    assert ask("ping", {}) == {"ok": "pong"}
    assert WAKE_TASK in ask("registered", {})
    for command, arguments in COMMANDS:
        assert "Not allowed" in str(ask(command, arguments)), command
    with Connection(settings.effective_broker_url, transport_options=_options(app)) as connection:
        exchange = Exchange("celery.pidbox", type="fanout", durable=False)
        producer: Any = connection.Producer(exchange=exchange, serializer="json")
        producer.publish({"method": "ping", "arguments": Bomb(bomb)}, serializer="pickle")
        for body in NO_COMMANDS:
            producer.publish(body, headers={"clock": "soon"})
            producer.publish(body)
    assert ask("ping", {}) == {"ok": "pong"}
    app.close()


def _options(app: Any) -> dict[str, Any]:
    options: dict[str, Any] = app.conf.broker_transport_options
    return options


async def test_without_remote_control_nobody_listens(
    agents_settings: Settings, celery_worker_cluster: CeleryWorkerCluster
) -> None:
    """That is the default: a command is answered by nobody, and subscribed to by nobody."""
    broker: Any = Redis.from_url(agents_settings.effective_broker_url)
    assert not [name for name in broker.pubsub_channels("*") if b"pidbox" in name]
    assert not list(broker.scan_iter("*pidbox*"))
    broker.close()
    assert "shutdown" not in INSPECTION
