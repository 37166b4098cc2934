"""The agent as a virtual object of Restate; hypercorn serves `app`."""

import asyncio
import json
import os

import _work
import restate
from _work import Message

ROUNDS = int(os.environ["PEER_ROUNDS"])
LATENCY_S = float(os.environ["PEER_LATENCY_S"])

shop = restate.VirtualObject("shop")


async def think(messages: list[Message]) -> Message:
    """Stand in for a model."""
    await asyncio.sleep(LATENCY_S)
    run = int(messages[0]["content"].removeprefix("Question ").partition(":")[0])
    number = sum(message["role"] == "assistant" for message in messages) + 1
    return _work.answer(run) if number == ROUNDS else _work.call(run, number)


async def look_up(run: int, number: int) -> str:
    """Look something up."""
    return _work.look_up(run, number)


@shop.handler()
async def answer(ctx: restate.ObjectContext, question: str) -> str:
    """Do a run in the conversation that the object is."""
    messages: list[Message] = await ctx.get("messages") or []
    messages.append({"role": "user", "content": question})
    while True:
        said: Message = await ctx.run_typed("model", think, messages=messages)
        messages.append(said)
        if "tool_calls" not in said:
            break
        for call in said["tool_calls"]:
            arguments = json.loads(call["function"]["arguments"])
            result: str = await ctx.run_typed(_work.TOOL, look_up, **arguments)
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    ctx.set("messages", messages)
    return str(said["content"])


app = restate.app(services=[shop])
