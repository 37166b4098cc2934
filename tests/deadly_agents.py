"""Agents for tests of runs that take their workers down, and of those that only were there."""

import asyncio
import os
import signal
from typing import Final

from agent_worker import serve
from agent_worker.engine.protocol import EngineRequest

PATIENT_ATTEMPTS: Final = 2
NAP_S: Final = 0.5


async def deadly(_: EngineRequest) -> str:
    """Take the worker along, as a tool does that needs more memory than there is."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


async def bystander(request: EngineRequest) -> str:
    """Wait in the first attempts; after that, answer in a while."""
    if request.run.attempt <= PATIENT_ATTEMPTS:
        await asyncio.Event().wait()
    await asyncio.sleep(NAP_S)
    return "survived"


deadly_agent = serve(deadly)
bystander_agent = serve(bystander)
