"""The worker: executes runs.

What a module with agents needs is here. Importing it loads no LLM library.
"""

from typing import TYPE_CHECKING, Any

from agent_worker.context import RunInfo, ToolContext, run_info, tool_context
from agent_worker.definition import AgentDefinition
from agent_worker.engine.function import FunctionEngine
from agent_worker.registry import serve

if TYPE_CHECKING:
    from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine

__all__ = [
    "AgentDefinition",
    "FunctionEngine",
    "PydanticAIEngine",
    "RunInfo",
    "ToolContext",
    "run_info",
    "serve",
    "tool_context",
]


def __getattr__(name: str) -> Any:
    if name == "PydanticAIEngine":
        from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine

        return PydanticAIEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
