"""The graph: a model, and a tool that it asks."""

import asyncio
import os
from typing import Any

import _work
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

ROUNDS = int(os.environ["PEER_ROUNDS"])
LATENCY_S = float(os.environ["PEER_LATENCY_S"])


@tool(_work.TOOL)
async def look_up(run: int, number: int) -> str:
    """Look something up."""
    return _work.look_up(run, number)


async def model(state: MessagesState) -> dict[str, Any]:
    """Stand in for a model."""
    await asyncio.sleep(LATENCY_S)
    run = int(str(state["messages"][0].content).removeprefix("Question ").partition(":")[0])
    number = sum(isinstance(message, AIMessage) for message in state["messages"]) + 1
    if number == ROUNDS:
        return {"messages": [AIMessage(_work.final(run))]}
    call = {
        "name": _work.TOOL,
        "args": _work.arguments(run, number),
        "id": _work.call_id(run, number),
    }
    return {"messages": [AIMessage("", tool_calls=[call])]}


builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_node("tools", ToolNode([look_up]))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", tools_condition)
builder.add_edge("tools", "model")
graph = builder.compile()
