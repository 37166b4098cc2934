"""What an idle system adds to a model's time: until a run is submitted, seen, and over."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from agent_client import AsyncAgentClient, DataPart, RunStatus
from benchmarks.latency_agents import MODEL_S
from benchmarks.quantile import latency_ms
from benchmarks.suite.measured import Bars, Measured, Row
from benchmarks.suite.stage import Stage
from benchmarks.system import run_system
from shared.settings import Settings

NAME: Final = "latency"
TITLE: Final = "Latency of an idle system"

SUBMITTED: Final = "submit returned"
FIRST_SEEN: Final = "first message seen"
ANSWER_SEEN: Final = "answer seen"
RESULT: Final = "result returned"

_PAUSE_S: Final = 0.02
_WARM_UP: Final = 10
_RESULT_S: Final = 30.0
_GOAL_MS: Final = 10
_EXPLANATION: Final = f"""
One worker, and one run at a time, each of one round by a plain function. Times count from just
before `submit`. The model's own time, as the agent measured it, is taken off where it had to be
waited for. The first message of a run is its input, which a watcher sees when a worker has begun.
Watchers and callers of `result` were measured in runs of their own; both began when `submit`
returned. The goal is {_GOAL_MS} ms for each.
"""


def measure(stage: Stage) -> Measured:
    """Run after run, watched and awaited in turn."""
    runs = stage.choose(300, quick=5)
    with run_system("benchmarks.latency_agents") as system:
        latencies = asyncio.run(_measure(system.settings, runs, stage))
    conditions = {"runs": runs, "workers": 1, "rounds": 1, "model_s": _PAUSE_S}
    rows = [Row(what, conditions, latency_ms(values)) for what, values in latencies.items()]
    plot = Bars("Added by an idle system", "p50_ms", "ms")
    return Measured(tuple(rows), plots=(plot,), explanation=_EXPLANATION.strip())


async def _measure(settings: Settings, runs: int, stage: Stage) -> Mapping[str, Sequence[float]]:
    """Seconds from before `submit`, without the model's, by what was waited for."""
    latencies: dict[str, list[float]] = defaultdict(list)
    async with AsyncAgentClient(settings) as client:
        for number in stage.track(range(-_WARM_UP, runs), lambda number: f"run {number}"):
            times = await _watch(client) | await _await_result(client)
            for what, latency_s in times.items():
                if number >= 0:
                    latencies[what].append(latency_s)
    return latencies


async def _watch(client: AsyncAgentClient) -> dict[str, float]:
    started = time.perf_counter()
    run = await client.submit("answering", "What is tea?", metadata={MODEL_S: _PAUSE_S})
    submitted = time.perf_counter()
    seen = [(message, time.perf_counter()) async for message in run.watch()]
    (_, first_at), (answer, answer_at) = seen
    return {
        SUBMITTED: submitted - started,
        FIRST_SEEN: first_at - started,
        ANSWER_SEEN: answer_at - started - _model_s(answer.content),
    }


async def _await_result(client: AsyncAgentClient) -> dict[str, float]:
    started = time.perf_counter()
    run = await client.submit("answering", "What is tea?", metadata={MODEL_S: _PAUSE_S})
    outcome = await run.result(timeout_s=_RESULT_S)
    ended = time.perf_counter()
    assert outcome.status is RunStatus.COMPLETED
    return {RESULT: ended - started - _model_s((DataPart(value=outcome.output),))}


def _model_s(content: object) -> float:
    """How long the model took, from an answer's content."""
    match content:
        case (DataPart(value={"model_s": float(model_s)}),):
            return model_s
    raise ValueError(f"{content!r} is no answer of the agent")
