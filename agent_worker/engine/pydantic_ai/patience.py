"""Patience with models: time limits, further tries, an answer's text while it is written."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import stamina
from pydantic_ai.exceptions import ModelTimeoutError
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
)
from pydantic_ai.models import (
    CompletedStreamedResponse,
    Model,
    ModelRequestParameters,
    StreamedResponse,
)
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext

from agent_worker.engine.protocol import EngineLimits
from agent_worker.engine.pydantic_ai.answer_check import (
    SizeCheck,
    check_answer,
    make_storable,
    tell_calls_apart,
)
from agent_worker.engine.pydantic_ai.failure import is_transient, retry_after_s
from agent_worker.engine.pydantic_ai.shortening import with_short_results

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0
JITTER_S: Final = 0.5

Show = Callable[[str], None]
"""Takes a piece of the text that the model is writing."""


class PatientModel(WrapperModel):
    """A model whose calls are limited in time and made again after transient errors.

    It is shown long results without their middle, where the limits say so.

    `before_call` is awaited in front of each call, not of each further try. `show` gets the pieces
    of text while they come; None: nobody wants them. `renamed` gets the ids of calls that had to be
    changed, with the ids that the model wrote. A try that failed after it had shown text is
    followed by tries that show none, since pieces of two answers would read as one. The message
    that is stored in the end supersedes what was shown.
    """

    def __init__(
        self,
        wrapped: Model,
        limits: EngineLimits,
        *,
        before_call: Callable[[], Awaitable[None]],
        show: Show | None,
        renamed: dict[str, str],
    ) -> None:
        super().__init__(wrapped)
        self._limits = limits
        self._before_call = before_call
        self._show = show
        self._renamed = renamed

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        await self._before_call()
        settings = _without_own_retries(self.wrapped, model_settings)
        limit = self._limits.max_message_bytes
        messages = with_short_results(messages, self._limits.shorten_results_bytes)
        call = _Call(self.wrapped, messages, settings, model_request_parameters, self._show, limit)
        tries = stamina.retry_context(
            on=_wait_before_next,
            attempts=self._limits.model_retries + 1,
            timeout=None,
            wait_initial=FIRST_WAIT_S,
            wait_max=LONGEST_WAIT_S,
            wait_jitter=JITTER_S,
        ).with_name(f"model call of {self.model_name}", (), {})
        try:
            async for one in tries:
                with one:
                    response = await self._try(call)
                    check_answer(response, self._limits.max_message_bytes)
                    make_storable(response)
                    self._renamed.update(tell_calls_apart(response))
                    return response
        except _TransientError as failure:
            raise failure.error from failure.error.__cause__
        raise AssertionError("retry_context ends with an answer or an exception")

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """For agents with event handlers: the whole answer, once it is there, as events."""
        del run_context  # the models find it in their context
        response = await self.request(messages, model_settings, model_request_parameters)
        yield CompletedStreamedResponse(
            response, model_request_parameters=model_request_parameters, replay_events=True
        )

    async def _try(self, call: "_Call") -> ModelResponse:
        limit_s = self._limits.model_timeout_s
        scope = asyncio.timeout(limit_s)
        try:
            async with scope:
                return await call.make()
        except Exception as error:
            failure = error
            if scope.expired() and isinstance(error, TimeoutError):
                said = f"The model {self.model_name} did not answer within {limit_s:g} s. "
                failure = ModelTimeoutError(self.model_name, said + "Raise `model_timeout_s`.")
            if not is_transient(failure):
                raise
            raise _TransientError(failure) from error


class _Call:
    """One model call, which may be made several times."""

    def __init__(
        self,
        model: Model,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        show: Show | None,
        max_bytes: int,
    ) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._arguments = (messages, settings, parameters)
        self._show = show
        self._streams = _can_only_stream(model) or (show is not None and _can_stream(model))

    async def make(self) -> ModelResponse:
        if not self._streams:
            return await self._model.request(*self._arguments)
        show, self._show = self._show, None  # for a further try, unless this one shows nothing
        has_shown = False
        size = SizeCheck(self._max_bytes)
        try:
            async with self._model.request_stream(*self._arguments) as stream:
                async for event in stream:
                    size.add(event)
                    if show is not None and (text := _text_of(event)):
                        has_shown = True
                        show(text)
                return stream.get()
        finally:
            if not has_shown:
                self._show = show


class _TransientError(Exception):
    """Carries an error that may be gone at the next try.

    What it says ends up in the log entry of the retry: the kind of error, not the provider's words,
    which may quote messages.
    """

    def __init__(self, error: Exception) -> None:
        status = getattr(error, "status_code", None)
        super().__init__(type(error).__name__ + (f" {status}" if status is not None else ""))
        self.error = error


def _wait_before_next(failure: Exception) -> bool | float:
    if not isinstance(failure, _TransientError):
        return False
    asked_s = retry_after_s(failure.error)
    return True if asked_s is None else asked_s


def _without_own_retries(model: Model, settings: ModelSettings | None) -> ModelSettings | None:
    """Settings under which the provider's client does not try again by itself.

    It would multiply the tries. A user's own setting stays, and so does the user's client.
    """
    if (settings and "max_retries" in settings) or not hasattr(model, "client"):
        return settings
    if "max_retries" in getattr(model, "unsupported_settings", ()):
        return settings
    return ModelSettings(**(settings or {}), max_retries=0)


def _can_stream(model: Model) -> bool:
    if isinstance(model, FallbackModel):
        return all(_can_stream(candidate) for candidate in model.models)
    if isinstance(model, WrapperModel):
        return _can_stream(model.wrapped)
    if isinstance(model, FunctionModel):
        return model.stream_function is not None
    return type(model).request_stream is not Model.request_stream


def _can_only_stream(model: Model) -> bool:
    return isinstance(model, FunctionModel) and model.function is None


def _text_of(event: ModelResponseStreamEvent) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""
