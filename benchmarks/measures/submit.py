"""How many runs a client submits, and how long each submit takes, alone and among fifty callers."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from agent_client import AgentClient, AsyncAgentClient
from benchmarks.quantile import latency_ms
from benchmarks.suite.measured import Bars, Condition, Measured, Row
from benchmarks.suite.stage import Stage
from shared.settings import Settings

NAME: Final = "submit"
TITLE: Final = "Submitting runs"

_CALLERS: Final = (1, 50)
_WARM_UP_S: Final = 0.3
_AGENT: Final = "nobody"
_INPUT: Final = "Find a hotel in Rome for three people, near the station, with breakfast." * 3
_EXPLANATION: Final = """
One client process submits runs, each in a conversation of its own, for a while. When a submit
returns, the run is in the append-only file of Redis (written through each second with `everysec`,
before each answer with `always`) and a ring for it is at the broker, the same Redis. No worker is
there, so nothing else takes time meanwhile. The callers of the blocking client are threads. The
goal is a median of 3 ms with one caller.
"""


@dataclass(frozen=True)
class Series:
    """What one client did."""

    latencies_s: Sequence[float]
    wall_s: float


Submits = Callable[[Settings, int, float], Series]


def measure(stage: Stage) -> Measured:
    """Both clients, with each number of callers, on a Redis of each kind of durability."""
    series_s = stage.choose(4.0, quick=0.2)
    steps = [*itertools.product(("everysec", "always"), (_asynchronous, _blocking), _CALLERS)]
    rows = []
    for fsync, submits, callers in stage.track(steps, lambda step: f"{_name(step[1])}, {step[2]}"):
        with stage.redis({"appendfsync": fsync}) as redis:
            settings = Settings.model_validate({"redis_url": redis.url})
            series = submits(settings, callers, series_s)
        count = len(series.latencies_s)
        conditions: dict[str, Condition] = {
            "callers": callers,
            "appendfsync": fsync,
            "submits": count,
        }
        figures = {"submits_per_s": count / series.wall_s, **latency_ms(series.latencies_s)}
        rows.append(Row(_name(submits), conditions, figures))
    plot = Bars("Submits per second", "submits_per_s", "1/s", group_by="callers")
    return Measured(tuple(rows), plots=(plot,), explanation=_EXPLANATION.strip())


def _name(submits: Submits) -> str:
    return "AsyncAgentClient" if submits is _asynchronous else "AgentClient"


def _asynchronous(settings: Settings, callers: int, series_s: float) -> Series:
    return asyncio.run(_submit_in_tasks(settings, callers, series_s))


async def _submit_in_tasks(settings: Settings, callers: int, series_s: float) -> Series:
    numbers = itertools.count()

    async def call(client: AsyncAgentClient, until: float) -> list[float]:
        latencies = []
        while (before := time.perf_counter()) < until:
            await client.submit(_AGENT, _INPUT, conversation_id=f"chat-{next(numbers)}")
            latencies.append(time.perf_counter() - before)
        return latencies

    async with AsyncAgentClient(settings) as client:
        until = time.perf_counter() + _WARM_UP_S
        await asyncio.gather(*(call(client, until) for _ in range(callers)))
        started = time.perf_counter()
        each = await asyncio.gather(*(call(client, started + series_s) for _ in range(callers)))
        wall_s = time.perf_counter() - started
    return Series([*itertools.chain(*each)], wall_s)


def _blocking(settings: Settings, callers: int, series_s: float) -> Series:
    numbers = itertools.count()

    def call(client: AgentClient, until: float) -> list[float]:
        latencies = []
        while (before := time.perf_counter()) < until:
            client.submit(_AGENT, _INPUT, conversation_id=f"chat-{next(numbers)}")
            latencies.append(time.perf_counter() - before)
        return latencies

    with AgentClient(settings) as client, ThreadPoolExecutor(callers) as threads:
        until = time.perf_counter() + _WARM_UP_S
        wait([threads.submit(call, client, until) for _ in range(callers)])
        started = time.perf_counter()
        calls = [threads.submit(call, client, started + series_s) for _ in range(callers)]
        each = [finished.result() for finished in calls]
        wall_s = time.perf_counter() - started
    return Series([*itertools.chain(*each)], wall_s)
