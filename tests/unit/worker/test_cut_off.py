"""A tool that ended when its worker left is not executed again, however narrow the moment."""

import asyncio
from collections import Counter

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agent_worker import tool_context
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from shared.message import Role
from shared.run import RunStatus
from shared.testing.waiting import eventually
from tests.unit.worker.stage import Stage

RUNS = 60
CALLS = 4
GRACE_S = 0.15


async def test_what_ends_around_the_end_of_the_grace_is_stored_or_cut_off() -> None:
    """Tools end every millisecond; those that did are in the history, the others run once more."""
    stage = Stage(concurrency=RUNS)
    started: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    begun = asyncio.Event()

    async def work(milliseconds: int) -> str:
        key = tool_context().idempotency_key
        started[key] += 1
        begun.set()
        is_first = tool_context().run.attempt == 1
        await asyncio.sleep(milliseconds / 1000 if is_first else 0)
        ended[key] += 1
        return key

    engine = PydanticAIEngine(Agent(FunctionModel(_call_tools), tools=[work]))
    leaver = stage.worker(engine)
    runs = [await stage.submit() for _ in range(RUNS)]
    await asyncio.gather(*(leaver.wake(run_id) for run_id in runs))
    await begun.wait()
    await leaver.shutdown(GRACE_S)
    stored = {
        message.text
        for run_id in runs
        for message in await stage.history(run_id)
        if message.role is Role.TOOL
    }
    assert stored == set(ended), "what had ended, and only that, has a result"
    assert 0 < len(stored) < RUNS * CALLS, "some have to end in time, and some not"

    other = stage.worker(engine)
    await asyncio.gather(*(other.wake(run_id) for run_id in runs))

    async def are_through() -> bool:
        return {(await stage.ledger.get(run_id)).status for run_id in runs} == {RunStatus.COMPLETED}

    await eventually(are_through)
    assert set(ended.values()) == {1}
    assert max(started.values()) == 2
    await stage.aclose()


def _call_tools(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Calls that end all around the end of the grace, others in each run."""
    if len(messages) > 1:
        return ModelResponse(parts=[TextPart("done")])
    calls = [
        ToolCallPart("work", {"milliseconds": hash((id(messages), index)) % 300})
        for index in range(CALLS)
    ]
    return ModelResponse(parts=calls)
