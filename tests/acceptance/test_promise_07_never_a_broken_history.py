"""Promise 7: whatever happened to a conversation, the model is shown one that is in order.

Looked at where it matters: at the provider, which keeps every request that it was ever sent.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from pytest_celery import CeleryWorkerCluster

from agent_client import AsyncAgentClient, AsyncRun, Message, RunStatus
from shared.backend import Backend
from shared.openai_chat import from_openai
from shared.redis_backend import build_redis_backend
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.acceptance.conftest import calling, check_closed, scene, wait_stored, worker_at
from tests.celery_nodes.local import WorkerNode
from tests.model_server import (
    Answer,
    ModelServer,
    RecordedRun,
    Recording,
    load_recordings,
    script_model,
    slow_model,
    status_model,
    tool_call,
    validate,
)
from tests.model_server.requirement import require_recordings
from tests.model_server.sight import find_sight_faults, shown
from tests.traces import permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S = 60.0
SIZES = [1, 2, 3, 4, 5, 6, 20]
WHOLE = 1000
"""A window that everything fits into."""

CONVERSATIONS, RUNS = 6, 8
KILL_AFTER = (12, 30)
"""After how many submits a worker is killed."""
LOOK_S = 1.0
"""How long a run of the storm is watched before the next one comes."""

RECORDINGS = 4
"""How many of each kind."""
AT_ONCE = 16

Cut = tuple[Recording, RecordedRun, int]
"""A run of a recording, and behind how many of its messages it is cut."""


@dataclass
class Asked:
    """What was asked in each run: its input, which no other run has, and the size of its window."""

    client: AsyncAgentClient
    server: ModelServer
    runs: dict[str, tuple[str, int]] = field(default_factory=dict)

    async def submit(
        self, name: str, model: str, size: int, *, agent: str = "chat", **more: Any
    ) -> AsyncRun:
        """Submit a run with an input of its own."""
        text = f"input-{uuid4().hex}"
        run = await self.client.submit(
            *(agent, text),
            conversation_id=name,
            metadata=scene(self.server, model),
            history_size=size,
            **more,
        )
        self.runs[run.id] = text, size
        return run

    def check(self) -> Counter[str]:
        """Check each request that was sent; how many there were, by run."""
        sent: Counter[str] = Counter()
        for request in self.server.requests():
            run_id = request["user"].partition(":")[0]
            text, size = self.runs[run_id]
            assert find_sight_faults(shown(request), own_input=text, size=size) == [], request
            sent[run_id] += 1
        assert self.server.stats().broken_histories == 0
        return sent


async def test_no_request_of_a_storm_is_broken(
    client: AsyncAgentClient,
    model_server: ModelServer,
    celery_worker_cluster: CeleryWorkerCluster,
    traces: Path,
) -> None:
    """Cancels, interrupts, rollbacks, failing tools, unknown tools, limits and killed workers, in
    conversations with windows of one message and more."""
    asked = Asked(client, model_server)
    # Killed and resumed with more messages of its own than its window has room for.
    model = calling([("note", "a"), ("note", "b")], [("wait", "gate")])
    resumed = await asked.submit("resumed", model, 1)
    first = await worker_at("gate", celery_worker_cluster, traces)
    victims = [first, next(each for each in celery_worker_cluster if each is not first)]
    names = [f"storm-{number}" for number in range(CONVERSATIONS)]
    await asyncio.gather(
        *(_storm(asked, name) for name in names),
        *(_kill(asked, victim, after) for victim, after in zip(victims, KILL_AFTER, strict=True)),
    )
    permit(traces, "gate")
    assert await resumed.output(timeout_s=RESULT_S) == "done"
    assert (await resumed.get()).crashes > 0
    records = [await client.run(run_id).get() for run_id in asked.runs]
    assert {record.status for record in records} == {
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
    }
    for name in names:
        for size in SIZES:
            run = await asked.submit(name, "echo", size, agent="bare")
            assert await run.output(timeout_s=RESULT_S) == asked.runs[run.id][0]
        check_closed(await client.history(name))
    sent = asked.check()
    assert len(sent) > len(asked.runs) / 2, "hardly any run came to ask its model"


async def test_a_conversation_goes_on_wherever_a_run_of_it_was_cut(
    client: AsyncAgentClient,
    agents_settings: Settings,
    model_server: ModelServer,
    tmp_path: Path,
) -> None:
    """Recorded conversations, cancelled behind each message of a run, and gone on with."""
    asked = Asked(client, model_server)
    backend = build_redis_backend(agents_settings)
    cuts = list(_cuts())
    assert len(cuts) > RECORDINGS
    free = asyncio.Semaphore(AT_ONCE)

    async def go_on(number: int, cut: Cut) -> None:
        name = f"cut-{number}"
        async with free:
            earlier = await _import(backend, name, *cut[:2])
            await _recite(client, tmp_path / name, name, cut, earlier)
            check_closed(await client.history(name))
            size = SIZES[number % len(SIZES)]
            small = await asked.submit(name, "echo", size, agent="bare")
            await small.output(timeout_s=RESULT_S)
            large = await asked.submit(name, "echo", WHOLE)
            await large.output(timeout_s=RESULT_S)
            *stored, _ = await client.history(name)
            whole[large.id] = [message.role for message in stored]

    whole: dict[str, list[str]] = {}
    try:
        await asyncio.gather(*(go_on(number, cut) for number, cut in enumerate(cuts)))
    finally:
        await backend.aclose()
    assert set(asked.check().values()) == {1}
    for request in model_server.requests():
        run_id = request["user"].partition(":")[0]
        roles = [message["role"] for message in shown(request)]
        assert roles == whole.get(run_id, roles), "something that is stored was not shown"


# --- the storm ------------------------------------------------------------------------------------


async def _storm(asked: Asked, name: str) -> None:
    """One conversation's runs, most of which are stopped by somebody."""
    random = Random(name)
    failing = await asked.submit(name, _models(random)[0], 20, max_rounds=1)
    assert (await failing.result(timeout_s=RESULT_S)).status is RunStatus.FAILED
    runs: list[AsyncRun] = []
    for _ in range(RUNS):
        model = random.choice(_models(random))
        run = await asked.submit(
            *(name, model, random.choice(SIZES)),
            agent="bare" if model == "echo" else "chat",
            on_busy=random.choice(["enqueue", "interrupt", "rollback"]),
            max_rounds=random.choice([1, 2, 50, 50]),
            save_on_iteration=random.random() < 0.8,
        )
        runs.append(run)
        await _see(run, random.randint(2, 7))
        if random.random() < 0.4:
            await run.cancel()
    for run in runs:
        await run.cancel()
        await run.result(timeout_s=RESULT_S)


def _models(random: Random) -> list[str]:
    three = calling(
        [("note", "a"), ("dwell", "b")], [("fail", "c"), ("note", "d")], [("note", "e")]
    )
    unknown = Answer(calls=(tool_call("nonsense", {}), tool_call("note", {"name": "f"})))
    return [
        three,
        slow_model(0.02, three),
        calling([("note", "g"), ("tidy", "h")]),
        calling([("dwell", "i")] * 5, [("tidy", "j")]),
        script_model(unknown, Answer(text="done")),
        status_model(503, 1, f"{random.random()}", three),
        "hang",
        "echo",
    ]


async def _see(run: AsyncRun, count: int) -> None:
    """Watch until so many messages are stored, the run has ended, or there are no more for now."""
    seen = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK_S), aclosing(run.watch()) as messages:
            async for _ in messages:
                seen += 1
                if seen == count:
                    return


async def _kill(asked: Asked, victim: WorkerNode, after: int) -> None:
    """Kill a worker in the middle of the storm, and start it again."""

    async def is_due() -> bool:
        return len(asked.runs) >= after

    await eventually(is_due, timeout_s=RESULT_S)
    victim.kill()
    await asyncio.to_thread(victim.container.restart)


# --- the cuts -------------------------------------------------------------------------------------


def _cuts() -> Iterator[Cut]:
    """A run of each recording, cut behind each of its messages."""
    folder = require_recordings()
    for file in ("parallel_calls.jsonl", "conversations.jsonl"):
        for recording in load_recordings(folder / file, RECORDINGS):
            if not validate(recording):
                run = max(recording.runs(), key=lambda each: len(each.expected))
                yield from ((recording, run, cut) for cut in range(1, len(run.expected) + 2))


async def _import(backend: Backend, name: str, recording: Recording, run: RecordedRun) -> int:
    """Store what comes before the run; return how many messages that are."""
    before = [
        dict(each) for each in recording.messages[: run.first_message] if each["role"] != "system"
    ]
    if not before:
        return 0
    messages = [Message(**dict(draft), id=uuid4().hex) for draft in from_openai(before)]
    await backend.conversations.append(name, messages)
    return len(messages)


def _write(run: RecordedRun, file: Path) -> None:
    """Put the run where the agent `recite` reads it."""
    user = {"role": "user", "content": run.user_text}
    file.write_text(json.dumps([user, *(dict(each) for each in run.expected)]))


async def _recite(client: AsyncAgentClient, file: Path, name: str, cut: Cut, stored: int) -> None:
    """Store the run as far as its cut, and cancel it there."""
    _, run, count = cut
    await asyncio.to_thread(_write, run, file)
    reciting = await client.submit(
        *("recite", run.user_text),
        conversation_id=name,
        metadata={"file": str(file), "count": count},
    )
    await wait_stored(client, name, stored + count)
    await reciting.cancel()
    assert (await reciting.result(timeout_s=RESULT_S)).status is RunStatus.CANCELLED
