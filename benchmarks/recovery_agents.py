"""The agent that `benchmarks.recovery` gives to its workers: it notes when it starts, and waits."""

import asyncio
import json
import os
import time
from pathlib import Path

from agent_worker import RunInfo, serve
from agent_worker.engine.protocol import EngineRequest

STARTS = "RECOVERY_STARTS"
"""Environment variable: the file in which every start of the agent is noted."""


async def waiting(request: EngineRequest) -> str:
    """Wait until the run is cancelled."""
    _note(request.run)
    await asyncio.Event().wait()
    return ""


def _note(run: RunInfo) -> None:
    entry = {"run": run.run_id, "attempt": run.attempt, "pid": os.getpid(), "at": time.time()}
    with Path(os.environ[STARTS]).open("a") as file:
        file.write(json.dumps(entry) + "\n")


agent = serve(waiting)
