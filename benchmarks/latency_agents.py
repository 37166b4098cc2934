"""The agent that `benchmarks.measures.latency` gives to its worker: one answer after a pause."""

import asyncio
import time
from typing import Final

from pydantic import JsonValue

from agent_worker import serve
from agent_worker.engine.protocol import EngineRequest

MODEL_S: Final = "model_s"
"""In a run's metadata: how long the model shall take. In its output: how long it took."""


async def answering(request: EngineRequest) -> JsonValue:
    """A pause is always a little longer than asked for, so its real length is the answer."""
    started = time.perf_counter()
    await asyncio.sleep(float(str(request.run.metadata[MODEL_S])))
    return {MODEL_S: time.perf_counter() - started}


agent = serve(answering)
