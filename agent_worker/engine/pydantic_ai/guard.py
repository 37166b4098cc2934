"""The guard of a run: stands around every model call and every tool call in it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NoReturn

from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    SkipToolExecution,
    SkipToolValidation,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import (
    ModelRequest,
    ModelRequestPart,
    ToolCallPart,
    ToolReturn,
)
from pydantic_ai.models import Model
from pydantic_ai.output import OutputContext
from pydantic_ai.tools import RunContext, ToolDefinition, ToolDenied

from agent_worker.context import RunInfo, ToolContext, idempotency_key, in_tool
from agent_worker.cutting import cut
from agent_worker.engine.protocol import CutOff, EngineLimits
from agent_worker.engine.pydantic_ai.bounding import bounded
from agent_worker.engine.pydantic_ai.history import RecordedResult
from agent_worker.engine.pydantic_ai.patience import PatientModel, Show
from agent_worker.engine.pydantic_ai.round import Round
from agent_worker.engine.pydantic_ai.threads import EscapedError
from agent_worker.saying import named
from shared.codec import storable

MAX_FAILURE_LENGTH: Final = 4000
"""Characters of an exception's message that the model is shown."""

_CONTROL_FLOW: Final = (
    ApprovalRequired,
    CallDeferred,
    SkipToolExecution,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
)

Arguments = dict[str, Any]
Execute = Callable[[Arguments], Awaitable[Any]]


class RunGuard(AbstractCapability[Any]):
    """Makes the calls of one run durable.

    Model calls are limited and repeated. Tool calls are limited and know who they are; what they
    raise becomes a result; those that finished under an earlier lease are answered from the store.

    `round` is the round whose tools are being called. `renamed` collects the ids that an answer's
    calls were given so that they differ, with the ids that the model wrote.
    """

    def __init__(
        self,
        run: RunInfo,
        limits: EngineLimits,
        cut_off: CutOff,
        *,
        before_model_call: Callable[[], Awaitable[None]],
        before_tool: Callable[[], Awaitable[None]],
        show: Show | None,
        renamed: dict[str, str],
    ) -> None:
        self.round = Round(position=0)
        self._run = run
        self._limits = limits
        self._cut_off = cut_off
        self._before_model_call = before_model_call
        self._before_tool = before_tool
        self._show = show
        self._renamed = renamed

    def get_ordering(self) -> CapabilityOrdering:
        """Outermost: the user's own hooks see what a tool raised before it becomes a result."""
        return CapabilityOrdering(position="outermost")

    def get_wrapper_model(self, model: Model) -> Model:
        return PatientModel(
            model,
            self._limits,
            before_call=self._before_model_call,
            show=self._show,
            renamed=self._renamed,
        )

    async def wrap_tool_validate(
        self,
        ctx: RunContext[Any],  # noqa: ARG002  a hook's arguments are given
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002
        args: str | Arguments,
        handler: Callable[[str | Arguments], Awaitable[Arguments]],
    ) -> Arguments:
        """Let calls that have a result pass: they are not executed, whatever their arguments."""
        if self.round.index_of(call.tool_call_id) in self.round.recorded:
            raise SkipToolValidation({})
        try:
            return await handler(args)
        except ToolRetryError as error:  # it quotes the arguments, however long they are
            _shorten(error, self._limits.max_result_bytes)
            raise

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002
        args: Arguments,
        handler: Execute,
    ) -> Any:
        index = self.round.index_of(call.tool_call_id)
        if index is None:
            return await handler(args)  # code of a tool calls this one: a part of that call
        if (recorded := self.round.recorded.get(index)) is not None:
            if recorded.said:
                ctx.enqueue(*recorded.said)
            return _answer(recorded)
        await self._before_tool()
        with in_tool(self._tool_context(index, call)):
            result = await self._execute(ctx, call, args, handler)
            result = bounded(result, call.tool_name, self._limits)
        self.round.executed.add(index)
        self.round.said[index] = _said_by(ctx)
        if isinstance(result, ToolReturn) and result.tools:
            self.round.reveals[index] = list(result.tools)
        return result

    async def wrap_output_process(
        self,
        ctx: RunContext[Any],  # noqa: ARG002
        *,
        output_context: OutputContext,
        output: Any,
        handler: Callable[[Any], Awaitable[Any]],
    ) -> Any:
        """Run an output function as the tool call that it is: with a key, and not a second time."""
        call = output_context.tool_call
        index = None if call is None else self.round.index_of(call.tool_call_id)
        if call is None or index is None:
            return await handler(output)
        recorded = self.round.recorded.get(index)
        if recorded is not None and recorded.has_output:
            return recorded.output
        await self._before_tool()
        with in_tool(self._tool_context(index, call)):
            result = await handler(output)
        if result is not output:
            self.round.outputs[index] = result
        return result

    async def _execute(
        self, ctx: RunContext[Any], call: ToolCallPart, args: Arguments, handler: Execute
    ) -> Any:
        scope = asyncio.timeout(self._limits.tool_timeout_s)
        try:
            return await self._execute_within(scope, ctx, call, partial(handler, args))
        except Exception:
            if self._cut_off.is_given and scope.expired():
                # Nothing that may be told to the model: the run goes on elsewhere. Those beside
                # it that have ended are still to be told, so this waits until the run is closed.
                await asyncio.get_running_loop().create_future()
            raise

    async def _execute_within(
        self,
        scope: asyncio.Timeout,
        ctx: RunContext[Any],
        call: ToolCallPart,
        handler: Callable[[], Awaitable[Any]],
    ) -> Any:
        try:
            async with scope:
                with self._cut_off.ends(scope):
                    return await handler()
        except (*_CONTROL_FLOW, GeneratorExit) as error:
            _shorten(error, self._limits.max_result_bytes)
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # somebody cancels the run; otherwise the tool made it up
            _fail(error)
        except BaseException as error:  # SystemExit too, or one tool could end the process
            if scope.expired() and isinstance(error, TimeoutError):
                name = call.tool_name
                limit_s = self._limits.tool_timeout_s
                raise ToolFailed(f"The tool {name!r} did not end within {limit_s:g} s.") from error
            if _is_out_of_retries(error, ctx):
                raise
            _fail(error)

    def _tool_context(self, index: int, call: ToolCallPart) -> ToolContext:
        return ToolContext(
            run=self._run,
            tool_name=call.tool_name,
            tool_call_id=self.round.stored_ids[index],
            idempotency_key=idempotency_key(self._run.run_id, self.round.position, index),
        )


def _shorten(error: BaseException, limit: int) -> None:
    """Cut what a tool says about its failure: it is stored and sent like any result."""
    if isinstance(error, ModelRetry | ToolFailed):
        error.message = cut(storable(str(error.message)), limit)
        return
    part = error.tool_retry if isinstance(error, ToolRetryError) else None
    part = error.tool_failed if isinstance(error, ToolFailedError) else part
    if part is not None and isinstance(part.content, str):
        part.content = cut(storable(part.content), limit)


def _said_by(ctx: RunContext[Any]) -> list[ModelRequestPart]:
    """What the tool has put into the run with `ctx.enqueue`, to go behind its result."""
    own = (ctx.tool_call_id, ctx.run_step)
    return [
        part
        for pending in ctx.pending_messages or ()
        if getattr(pending, "_tool_call", None) == own
        for message in pending.messages
        if isinstance(message, ModelRequest)
        for part in message.parts
    ]


def _answer(recorded: RecordedResult) -> Any:
    """Say again what a call gave; the exact part is put in its place afterwards."""
    part = recorded.part
    if part.outcome == "retried":
        raise ModelRetry(part.model_response_str(wrap_if_error=False))
    if part.outcome == "failed":
        raise ToolFailed(part.model_response_str(wrap_if_error=False))
    if part.outcome == "denied":
        return ToolDenied(part.model_response_str(wrap_if_error=False))
    return ToolReturn(
        part.content,
        content=recorded.follow_up,
        metadata=part.metadata,
        tools=recorded.tools,
    )


def _fail(error: BaseException) -> NoReturn:
    if isinstance(error, EscapedError):
        error = error.escaped
    raise ToolFailed(storable(named(error)[:MAX_FAILURE_LENGTH])) from error


def _is_out_of_retries(error: BaseException, ctx: RunContext[Any]) -> bool:
    """Whether Pydantic AI ends the run because the tool asked for one correction too many.

    An agent that runs inside of the tool raises the same class for its own reasons.
    """
    return (
        isinstance(error, UnexpectedModelBehavior)
        and isinstance(error.__cause__, ModelRetry)
        and ctx.retry >= ctx.max_retries
    )
