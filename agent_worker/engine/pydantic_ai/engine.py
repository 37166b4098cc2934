"""Pydantic AI agents as an engine. They run as they are."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from pydantic_ai.agent import AbstractAgent
from pydantic_ai.models import Model
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import UsageLimits

from agent_worker.context import RunInfo
from agent_worker.engine.protocol import EngineError, EngineEvent, EngineRequest
from agent_worker.engine.pydantic_ai.description import describe_agent, unwrapped
from agent_worker.engine.pydantic_ai.execution import Execution
from agent_worker.engine.pydantic_ai.failure import engine_error
from agent_worker.engine.pydantic_ai.relay import Relay
from shared.card.value import AgentCard
from shared.run import AgentInfo

_NO_LIMITS: Final = UsageLimits(request_limit=None)
"""Rounds are counted here, over the whole run; the library's own limit would be another one."""


class PydanticAIEngine:
    """Runs a Pydantic AI agent, with the guarantees of `Engine` and some of its own.

    - The agent's system prompts and instructions reach the model in every run, and are not stored.
    - A tool that runs out of time, raises, or returns what is no JSON gives a result that says so
      to the model. `ModelRetry`, unknown tools and invalid arguments are what Pydantic AI makes of
      them, and too many of them end the run, as there.
    - What a tool returns as `ToolReturn.content` is the end of the result's content.
    - Model calls that fail for a moment are made again, with growing pauses, as often as
      `limits.model_retries` says; a provider's `Retry-After` is heeded. `TextDelta`s of a try that
      failed are superseded by the message that follows.
    - Output functions run in the context of their call. What they returned is not computed again,
      once the result of the call is stored.

    `deps` makes what the agent's tools get as dependencies, for each run; it may be async.
    """

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        deps: Callable[[RunInfo], Any] | None = None,
        *,
        usage_limits: UsageLimits | None = None,
    ) -> None:
        self.agent = agent
        self._deps = deps
        self._usage_limits = usage_limits or _NO_LIMITS

    @property
    def info(self) -> AgentInfo:
        """What the agent says about itself; the name may be empty, `serve` demands one."""
        model = self.agent.model
        description = getattr(self.agent, "description", None)
        return AgentInfo(
            name=self.agent.name or "",
            queue="",
            model=model.model_id if isinstance(model, Model) else model,
            description=description if isinstance(description, str) else None,
            tools=_tool_names(self.agent),
        )

    def describe(self) -> AgentCard:
        """The agent's card: prompts as far as they are fixed, and tools with their schemas."""
        return describe_agent(self.agent)

    async def run(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """Execute a run, or the rest of one.

        Raises:
            EngineError: With code ``model_error``, ``model_timeout``, ``max_rounds``,
                ``output_invalid``, ``usage_limit``, or ``agent_error`` where the agent's own code
                raised.
        """
        relay = Relay()
        try:
            execution = Execution(
                self.agent, request, relay, deps=self._deps, usage_limits=self._usage_limits
            )
        except Exception as error:  # what is stored cannot be read
            raise engine_error(error) from error
        task = asyncio.create_task(execution.run(), name=f"pydantic-ai:{request.run.run_id}")
        task.add_done_callback(lambda _: relay.close())
        try:
            while (event := await relay.take()) is not None:
                yield event
            if task.cancelled():
                raise EngineError("agent_error", "Code of the agent cancelled the run.")
            yield task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # whatever it says, the run is over


def _tool_names(agent: AbstractAgent[Any, Any]) -> tuple[str, ...]:
    """The tools that are known without starting anything; others come and go with their servers."""
    names = (
        name
        for toolset in unwrapped(agent).toolsets
        if isinstance(toolset, FunctionToolset)
        for name in toolset.tools
    )
    return tuple(dict.fromkeys(names))
