"""The worker: executes runs.

What a module with agents needs is here. Importing it loads no LLM library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from agent_worker.context import RunInfo, ToolContext, run_info, tool_context
from agent_worker.definition import AgentDefinition
from agent_worker.engine.function import FunctionEngine
from agent_worker.registry import serve
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.own_choice import OwnChoice
from agent_worker.window.protocol import Window, WindowPolicy, WindowRequest

if TYPE_CHECKING:
    from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
    from agent_worker.window.summarise import Summarise
    from agent_worker.window.summariser import Summary
    from agent_worker.window.token_budget import TokenBudget

__all__ = [
    "AgentDefinition",
    "FunctionEngine",
    "LastMessages",
    "OwnChoice",
    "PydanticAIEngine",
    "RunInfo",
    "Summarise",
    "Summary",
    "TokenBudget",
    "ToolContext",
    "Window",
    "WindowPolicy",
    "WindowRequest",
    "run_info",
    "serve",
    "tool_context",
]


_HEAVIER: Final = {
    "PydanticAIEngine": "agent_worker.engine.pydantic_ai.engine",
    "Summarise": "agent_worker.window.summarise",
    "Summary": "agent_worker.window.summariser",
    "TokenBudget": "agent_worker.window.token_budget",
}
"""Loaded by whoever asks for them: they bring libraries along."""


def __getattr__(name: str) -> Any:
    if name in _HEAVIER:
        return getattr(import_module(_HEAVIER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
