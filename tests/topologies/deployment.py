"""Workers and a client of one test, over services that the test has started for itself."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent_client import AsyncAgentClient
from agent_worker.testing import WorkerProcess
from shared.settings import Settings
from shared.testing.waiting import eventually
from tests.celery_nodes.fixtures import REPOSITORY
from tests.traces import FOLDER, executions

RESULT_S: Final = 60.0
"""Far more than anything here takes, on a machine that does something else as well."""


@dataclass(frozen=True)
class Deployment:
    """Two workers, or as many as asked for, that serve `tests.agents`."""

    settings: Settings
    client: AsyncAgentClient
    workers: list[WorkerProcess]
    traces: Path

    def logs(self) -> str:
        """What all of its workers logged."""
        return "".join(worker.log() for worker in self.workers)

    async def started(self, count: int, name: str | None = None) -> None:
        """Wait until so many tool calls (with this argument) have been started."""

        async def are_started() -> bool:
            calls = [each for each in executions(self.traces) if each["event"] == "start"]
            return len([call for call in calls if name in (None, call["name"])]) >= count

        await eventually(are_started, timeout_s=RESULT_S)

    async def logged(self, text: str) -> None:
        """Wait until a worker has logged it."""

        async def is_logged() -> bool:
            return text in self.logs()

        await eventually(is_logged, timeout_s=RESULT_S)

    async def beats_missed(self, count: int) -> None:
        """Wait until every worker has failed to beat so often from now on."""
        before = [worker.log().count("heartbeat.failed") for worker in self.workers]

        async def are_missed() -> bool:
            now = [worker.log().count("heartbeat.failed") for worker in self.workers]
            return all(more >= less + count for more, less in zip(now, before, strict=True))

        await eventually(are_missed, timeout_s=RESULT_S)


@asynccontextmanager
async def deploy(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Deployment]:
    """Start workers with these settings, and a client; stop both at the end."""
    traces = folder / "traces"
    traces.mkdir(parents=True, exist_ok=True)
    given = {"redis_timeout_s": 2, "broker_timeout_s": 2, **settings}
    processes = [
        WorkerProcess(
            "tests.agents",
            environment={
                **{f"AGENTS_{name.upper()}": str(value) for name, value in given.items()},
                FOLDER: str(traces),
                **(environment or {}),
            },
            cwd=REPOSITORY,
            log_path=folder / f"worker-{number}.log",
        )
        for number in range(workers)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            await asyncio.to_thread(process.wait_ready)
        ours = Settings.model_validate(given)
        async with AsyncAgentClient(ours) as client:
            yield Deployment(ours, client, processes, traces)
    finally:
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in processes))
