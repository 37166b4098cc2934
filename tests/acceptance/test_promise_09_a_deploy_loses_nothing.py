"""Promise 9: on SIGTERM a worker hands its runs over at the next safe point, within seconds.

The first tests look at one scene from several sides: two workers, and on the one that is told to
leave a run in each situation that a run can be in.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from agent_client import AsyncAgentClient, AsyncRun, DeltaEvent, Message, Run, RunStatus
from agent_worker.testing import WorkerProcess
from shared.testing.waiting import eventually
from tests.acceptance.conftest import play
from tests.acceptance.deployment import LEAVE_S, SLACK_S, Deployment, deploy, left
from tests.model_server import (
    Answer,
    ModelServer,
    create_app,
    script_model,
    slow_model,
    status_model,
    tool_call,
)
from tests.traces import executions, permit

pytestmark = [pytest.mark.acceptance, pytest.mark.integration]

RESULT_S: Final = 40.0
GRACE_S: Final = 1.5
MODEL_S: Final = 4.0
"""How long the slow answers take; the worker that leaves is gone before."""
RETRY_S: Final = 30.0
"""What a busy provider asks to wait: longer than the tests would."""
PIECES: Final = "One piece of the answer. " * 10

SCRIPTS: Final = {
    "within": play([("wait", "within")], [("note", "within-after")]),
    "beyond": play([("wait", "beyond")], [("note", "beyond-after")]),
    "parallel": play([("note", "parallel-done"), ("wait", "parallel")]),
    "whole": play([("note", "whole-done")], [("wait", "whole")]),
    "thinking": play(
        [("note", "thinking-done")], [("think", "thinking"), ("note", "thinking-after")]
    ),
}


@dataclass(frozen=True)
class Scene:
    """What was seen of the scene when it was over."""

    runs: dict[str, Run]
    histories: dict[str, list[Message]]
    traces: list[dict[str, Any]]
    asked: Counter[str]
    """Requests that reached the model's server, by run."""
    leaver: WorkerProcess
    left_after_s: float

    def starts(self, argument: str) -> list[dict[str, Any]]:
        """The calls of a tool with this argument that were started."""
        return [
            each for each in self.traces if each["name"] == argument and each["event"] == "start"
        ]

    def tool_texts(self, name: str) -> list[str]:
        """The results in a run's history."""
        return [message.text for message in self.histories[name] if message.role == "tool"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    whole = create_app(keep_requests=1000, retry_after_s=RETRY_S)
    in_pieces = create_app(keep_requests=1000, chunk_delay_s=MODEL_S / 10)
    with deploy(folder) as system, ModelServer(whole) as quick, ModelServer(in_pieces) as slow:
        yield asyncio.run(_play_scene(system, quick, slow))


async def _play_scene(system: Deployment, quick: ModelServer, slow: ModelServer) -> Scene:
    leaver = await system.add(grace_s=GRACE_S)
    async with AsyncAgentClient(system.settings) as client:
        runs = await _bring_into_place(client, system, quick, slow)
        system.start()
        leaver.terminate()
        gone = asyncio.create_task(left(leaver, grace_s=GRACE_S))
        await eventually(lambda: _says(leaver, "worker.stopping"))
        permit(system.traces, "within")
        took = await gone
        for name in ("beyond.2", "parallel.2", "whole.2", "thread.2", "thinking"):
            permit(system.traces, name)
        for run in runs.values():
            await run.result(timeout_s=RESULT_S)
        return Scene(
            runs={name: await run.get() for name, run in runs.items()},
            histories={name: await run.history() for name, run in runs.items()},
            traces=executions(system.traces),
            asked=Counter(body["user"] for server in (quick, slow) for body in server.requests()),
            leaver=leaver,
            left_after_s=took,
        )


async def _bring_into_place(
    client: AsyncAgentClient, system: Deployment, quick: ModelServer, slow: ModelServer
) -> dict[str, AsyncRun]:
    """Submit all runs; return once each is where it is to be surprised."""

    def of(server: ModelServer, model: str) -> dict[str, Any]:
        return {"url": server.base_url, "model": model}

    thread = script_model(Answer(calls=(tool_call("hold", {"name": "thread"}),)), Answer("done"))
    runs = {
        name: await client.submit(
            "script", script, conversation_id=name, save_on_iteration=name != "whole"
        )
        for name, script in SCRIPTS.items()
    }
    runs["thread"] = await client.submit("mute", "?", metadata=of(quick, thread))
    busy = status_model(429, 1, "scene")
    runs["backing_off"] = await client.submit("mute", "?", metadata=of(quick, busy))
    tools = {"within", "beyond", "parallel", "whole", "thread"}

    async def are_working() -> bool:
        started = {each["name"] for each in executions(system.traces) if each["event"] == "start"}
        stored = [len(await runs[name].history()) for name in ("parallel", "thinking")]
        return tools <= started and min(stored) >= 3 and quick.stats().errors == 1

    await eventually(are_working, timeout_s=RESULT_S)
    # These two answer in a few seconds, so they come last.
    runs["asking"] = await client.submit("mute", "?", metadata=of(quick, slow_model(MODEL_S)))
    runs["streaming"] = await client.submit("courier", PIECES, metadata=of(slow, "echo"))
    async for event in runs["streaming"].events():
        if isinstance(event, DeltaEvent):
            break

    async def is_asking() -> bool:
        return any(body["user"] == runs["asking"].id for body in quick.requests())

    await eventually(is_asking)
    return runs


def test_the_worker_leaves_in_time(scene: Scene) -> None:
    """It takes no longer than the grace of its tools and a few seconds, though a thread hangs."""
    assert scene.left_after_s <= GRACE_S + LEAVE_S + SLACK_S


def test_every_run_goes_on_elsewhere_and_completes(scene: Scene) -> None:
    """With leases of ten minutes, only a hand-over explains it; and nobody calls it a crash."""
    assert {name: run.error for name, run in scene.runs.items() if run.error} == {}
    assert {run.status for run in scene.runs.values()} == {RunStatus.COMPLETED}
    assert {run.crashes for run in scene.runs.values()} == {0}
    assert {run.attempts for run in scene.runs.values()} == {2}


@pytest.mark.parametrize("name", ["asking", "streaming"])
def test_a_model_is_not_waited_for(scene: Scene, name: str) -> None:
    """The call is given up at once and made again by the other worker; its answer stands once."""
    assert scene.asked[scene.runs[name].id] == 2
    assert [message.role for message in scene.histories[name]] == ["user", "assistant"]


def test_a_pause_before_the_next_try_is_not_waited_for(scene: Scene) -> None:
    """The provider asked for half a minute; the other worker asks when it takes over."""
    run = scene.runs["backing_off"]
    assert scene.asked[run.id] == 2
    assert run.finished_at is not None
    assert (run.finished_at - run.created_at).total_seconds() < RETRY_S


def test_a_stored_result_is_kept_when_the_model_is_given_up(scene: Scene) -> None:
    """The tool before the interrupted model call is not executed again."""
    assert len(scene.starts("thinking-done")) == 1
    assert scene.tool_texts("thinking") == ["noted thinking-done", "noted thinking-after"]


def test_a_tool_that_ends_within_its_grace_is_not_repeated(scene: Scene) -> None:
    """Its result is stored by the worker that leaves, and the run goes on from there."""
    assert [start["attempt"] for start in scene.starts("within")] == [1]
    assert [start["attempt"] for start in scene.starts("within-after")] == [2]
    assert scene.tool_texts("within") == ["waited for within", "noted within-after"]


@pytest.mark.parametrize("name", ["beyond", "thread"])
def test_a_tool_that_takes_longer_runs_again_under_its_key(scene: Scene, name: str) -> None:
    """Async or in a thread: executed once more elsewhere, with the same idempotency key."""
    assert [start["attempt"] for start in scene.starts(name)] == [1, 2]
    assert len({start["key"] for start in scene.starts(name)}) == 1
    assert len([message for message in scene.histories[name] if message.role == "tool"]) == (
        2 if name == "beyond" else 1
    )


def test_of_parallel_tools_only_the_open_one_runs_again(scene: Scene) -> None:
    """The one that had ended has its result already."""
    assert len(scene.starts("parallel-done")) == 1
    assert [start["attempt"] for start in scene.starts("parallel")] == [1, 2]
    assert sorted(scene.tool_texts("parallel")) == ["noted parallel-done", "waited for parallel"]


def test_a_run_that_is_stored_as_a_whole_starts_again(scene: Scene) -> None:
    """Nothing of it was stored, so all of it is repeated, under the same keys; once in history."""
    starts = scene.starts("whole-done")
    assert [start["attempt"] for start in starts] == [1, 2]
    assert len({start["key"] for start in starts}) == 1
    positions = [message.position for message in scene.histories["whole"]]
    assert positions == list(range(6))


def test_the_log_of_a_deploy_holds_nothing_to_worry_about(scene: Scene) -> None:
    """Entries are JSON, none is a warning, but for the provider that was busy."""
    entries = [json.loads(line) for line in scene.leaver.log().splitlines() if line]
    assert {entry["event"] for entry in entries if entry["level"] not in {"debug", "info"}} <= {
        "stamina.retry_scheduled"
    }


async def _says(worker: WorkerProcess, event: str) -> bool:
    return event in worker.log(since_start=True)
