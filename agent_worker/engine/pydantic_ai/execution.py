"""The execution of one run: drives an agent, node by node, and gives every message away at once."""

import asyncio
import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.agent import AbstractAgent, AgentRun, CallToolsNode, ModelRequestNode
from pydantic_ai.messages import (
    FunctionToolResultEvent,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    SystemPromptPart,
    ToolReturnPart,
    repair_messages,
)
from pydantic_ai.usage import RunUsage, UsageLimits
from pydantic_graph import End

from agent_worker.context import RunInfo, in_run
from agent_worker.engine.protocol import EngineError, EngineRequest, Finished, TextDelta
from agent_worker.engine.pydantic_ai.answers import native_call_ids
from agent_worker.engine.pydantic_ai.failure import engine_error
from agent_worker.engine.pydantic_ai.guard import RunGuard
from agent_worker.engine.pydantic_ai.history import recorded_results
from agent_worker.engine.pydantic_ai.recorder import Recorder, jsonable, usage_of
from agent_worker.engine.pydantic_ai.relay import Relay
from agent_worker.engine.pydantic_ai.resumption import Resumption, input_of
from agent_worker.engine.pydantic_ai.round import Round
from agent_worker.engine.pydantic_ai.threads import tool_threads
from shared.message import Message

Run = AgentRun[Any, Any]


class Execution:
    """One execution of an agent, in the task that calls `run`. Events leave through the relay."""

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        request: EngineRequest,
        relay: Relay,
        *,
        deps: Callable[[RunInfo], Any] | None,
        usage_limits: UsageLimits,
    ) -> None:
        self._agent = agent
        self._request = request
        self._deps = deps
        self._usage_limits = usage_limits
        self._resumption = Resumption.of(request)
        self._rounds = self._resumption.rounds
        self._usage = RunUsage(**self._resumption.usage.model_dump())
        self._recorder = Recorder(relay, position=request.next_position, usage=self._usage)
        self._renamed: dict[str, str] = {}
        self._guard = RunGuard(
            request.run,
            request.limits,
            request.cut_off,
            before_model_call=self._settle_request,
            before_tool=request.confirm,
            show=(lambda text: relay.push(TextDelta(text))) if request.stream_text else None,
            renamed=self._renamed,
        )
        self._messages: list[ModelMessage] = []
        self._failure: BaseException | None = None
        self._is_asking = False

    async def run(self) -> Finished:
        """Execute the run, or the rest of it.

        Raises:
            EngineError: It cannot go on.
        """
        with in_run(self._request.run), Agent.using_thread_executor(tool_threads()):
            try:
                return await self._run()
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException as error:  # SystemExit too: it is the run that ends with it
                # The first exception says it; the agent's contexts may make a group of it.
                code = "model_error" if self._is_asking else "agent_error"
                raise engine_error(self._failure or error, otherwise=code) from error

    async def _run(self) -> Finished:
        deps = await self._make_deps()
        run = self._request.run
        async with self._agent.iter(
            self._resumption.prompt,
            message_history=await self._history(deps) or None,
            deps=deps,
            usage=self._usage,
            usage_limits=self._usage_limits,
            infer_name=False,
            run_id=run.run_id,
            conversation_id=run.conversation_id,
            capabilities=[self._guard],
        ) as agent_run:
            try:
                await self._advance(agent_run)
            except asyncio.CancelledError:
                raise
            except BaseException as error:
                self._failure = error
                raise
        if agent_run.result is None:
            raise EngineError("agent_error", "The agent ended without a result.")
        return self._finish(agent_run.result.output)

    async def _make_deps(self) -> Any:
        made = None if self._deps is None else self._deps(self._request.run)
        return await made if inspect.isawaitable(made) else made

    async def _history(self, deps: Any) -> list[ModelMessage]:
        """What the model knows, with the agent's own prompts in front, which are never stored."""
        history = self._resumption.history
        if self._resumption.prompt is not None and _has_open_calls(history):
            history = repair_messages(history)
        prompts: list[SystemPromptPart] = await self._agent.system_prompt_parts(
            deps=deps,
            message_history=history,
            prompt=self._resumption.prompt,
            usage=self._usage,
        )
        if not prompts:
            return history
        # Evaluated just now; with its reference a dynamic prompt would be once more.
        parts = [dataclasses.replace(prompt, dynamic_ref=None) for prompt in prompts]
        self._recorder.omit(parts)
        return [ModelRequest(parts=list(parts)), *history]

    # --- from node to node ------------------------------------------------------------------------

    async def _advance(self, agent_run: Run) -> None:
        node: Any = await self._begin(agent_run)
        while not isinstance(node, End):
            if isinstance(node, ModelRequestNode):
                node = await self._ask(agent_run, node)
            elif isinstance(node, CallToolsNode):
                node = await self._call(agent_run, node)
            else:
                node = await agent_run.next(node)

    async def _begin(self, agent_run: Run) -> Any:
        """Let the agent take the prompt in, or put it where the run was cut."""
        node: Any = await agent_run.next(agent_run.next_node)  # type: ignore[arg-type]  # not an End yet
        self._messages = agent_run.ctx.state.message_history
        if self._resumption.prompt is None:
            agent_run.ctx.deps.prompt = input_of(self._request.own[0])
        # An input that nobody answered is behind the last answer as well, and is stored.
        self._recorder.know(_unanswered(self._messages))
        answer = self._resumption.answer
        if answer is None:
            self._recorder.know(node.request.parts)
            return node
        self._guard.round = _round_of(answer, self._resumption.results)
        if isinstance(node, ModelRequestNode):
            # An agent with instructions would ask the model again behind a final answer.
            node = CallToolsNode(_last_answer(self._messages))
        return node

    async def _ask(self, agent_run: Run, node: Any) -> Any:
        limit = self._request.limits.max_rounds
        if self._rounds >= limit:
            raise EngineError(
                "max_rounds",
                f"The run is not through after {limit} model calls. Raise `max_rounds` of the run "
                "or the agent, or AGENTS_MAX_ROUNDS.",
            )
        await self._recorder.give_parts(node.request.parts, self._guard.round)
        self._renamed.clear()
        self._rounds += 1
        before = len(self._messages)
        following = await agent_run.next(node)
        self._is_asking = False
        # A hook may have refused the answer; it is in the history all the same.
        if isinstance(following, CallToolsNode):
            answer: ModelMessage | None = following.model_response
        else:
            answer = self._messages[-1] if len(self._messages) > before else None
        if isinstance(answer, ModelResponse):
            self._guard.round = await self._recorder.give_answer(answer, self._renamed)
        return following

    async def _settle_request(self) -> None:
        """Store what the request to the model holds, right before it is sent."""
        parts = _unanswered(self._messages)
        await self._recorder.give_parts(parts, self._guard.round)
        self._recorder.note_request(parts, self._messages[-1].metadata if parts else None)
        await self._request.confirm()
        self._is_asking = True

    async def _call(self, agent_run: Run, node: Any) -> Any:
        current = self._guard.round
        if node.model_response.tool_calls:
            async with node.stream(agent_run.ctx) as events:
                async for event in events:
                    if isinstance(event, FunctionToolResultEvent):
                        await self._recorder.give_result(event.part, current, event.content)
        following = await agent_run.next(node)
        if isinstance(following, ModelRequestNode):
            following.request.parts = [
                _recorded_part(part, current) for part in following.request.parts
            ]
        # Results of output tools are final only now: a tool's retry can take the output back.
        await self._recorder.give_parts(_unanswered(self._messages), current)
        if isinstance(following, ModelRequestNode):
            await self._recorder.give_parts(following.request.parts, current)
        return following

    def _finish(self, output: Any) -> Finished:
        try:
            written = jsonable(output)
        except ValueError as error:
            said = f"The agent's output cannot be written as JSON: {error}"
            raise EngineError("output_invalid", said) from error
        return Finished(written, usage=usage_of(self._usage), rounds=self._rounds)


def _round_of(answer: Message, results: tuple[Message, ...]) -> Round:
    return Round(
        answer.position,
        native_call_ids(answer),
        [call.id for call in answer.tool_calls],
        recorded_results(answer, results),
    )


def _recorded_part(part: ModelRequestPart, current: Round) -> ModelRequestPart:
    """The part as it was stored, if it was: what the first attempt would have sent."""
    if not isinstance(part, ToolReturnPart):
        return part
    index = current.index_of(part.tool_call_id)
    recorded = None if index is None else current.recorded.get(index)
    return part if recorded is None else recorded.part


def _has_open_calls(history: list[ModelMessage]) -> bool:
    return bool(history) and isinstance(history[-1], ModelResponse) and bool(history[-1].tool_calls)


def _last_answer(messages: list[ModelMessage]) -> ModelResponse:
    answer = messages[-1]
    if not isinstance(answer, ModelResponse):
        raise TypeError("The history of a run that was cut behind an answer ends with that answer.")
    return answer


def _unanswered(messages: list[ModelMessage]) -> list[ModelRequestPart]:
    """The parts of the requests behind the last answer."""
    parts: list[ModelRequestPart] = []
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            break
        parts[:0] = message.parts
    return parts
