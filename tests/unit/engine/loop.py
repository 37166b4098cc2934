"""An agent loop by hand: what somebody writes who uses no library."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agent_worker.context import ToolContext, idempotency_key, in_tool
from agent_worker.engine.protocol import EngineEvent, EngineRequest
from agent_worker.execution.closing import open_calls
from shared.message import (
    Draft,
    MessageKind,
    Role,
    ToolCall,
    ToolOutcome,
    Usage,
    tool_result_draft,
)
from tests.contract.engine import Scene


async def play(scene: Scene, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
    """Go on behind `request.own`, until the model wants no more tools."""
    known: list[Draft] = list(request.own)
    while True:
        async with aclosing(_call(scene, request, known)) as results:
            async for result in results:
                known.append(result)
                yield result
        rounds = sum(draft.role is Role.ASSISTANT for draft in known)
        if rounds and known[-1].role is Role.ASSISTANT:
            return
        known.append(_answer(rounds, await scene.ask(rounds)))
        yield known[-1]


def _answer(number: int, wanted: object) -> Draft:
    names = list(wanted) if isinstance(wanted, list | tuple) else []
    calls = tuple(
        ToolCall(id=f"call-{index}", name="act", arguments=json.dumps({"name": name}))
        for index, name in enumerate(names)
    )
    return Draft(
        role=Role.ASSISTANT,
        kind=MessageKind.TOOL_CALL if calls else MessageKind.MESSAGE,
        content=None if calls else "done",
        tool_calls=calls,
        usage=Usage(input_tokens=number + 1, requests=1),
    )


async def _call(
    scene: Scene, request: EngineRequest, known: list[Draft]
) -> AsyncGenerator[Draft, None]:
    answers = [index for index, draft in enumerate(known) if draft.role is Role.ASSISTANT]
    if not answers:
        return
    position = answers[-1]
    waiting = open_calls(known)
    indexes = {call.id: index for index, call in enumerate(known[position].tool_calls)}
    tasks = [
        asyncio.create_task(_run(scene, request, call, position, indexes[call.id]))
        for call in waiting
    ]
    try:
        for ended in asyncio.as_completed(tasks):
            yield await ended
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _run(
    scene: Scene, request: EngineRequest, call: ToolCall, position: int, index: int
) -> Draft:
    key = idempotency_key(request.run.run_id, position, index)
    limit_s = request.limits.tool_timeout_s
    try:
        with in_tool(ToolContext(request.run, call.name, call.id, key)):
            async with asyncio.timeout(limit_s):
                return tool_result_draft(call, await scene.act(**json.loads(call.arguments)))
    except TimeoutError:
        text = f"not within {limit_s} s"
    except ValueError as error:
        text = f"ValueError: {error}"
    return tool_result_draft(call, text, outcome=ToolOutcome.FAILED)
