"""Failures: what may be tried again, and what a run's error says about the rest."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from pydantic_ai.exceptions import (
    FallbackExceptionGroup,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestTimeout,
    ModelServerError,
    ModelTimeoutError,
    ModelUnavailableError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)

from agent_worker.engine.protocol import EngineError
from agent_worker.saying import named, said_by

MAX_RETRY_AFTER_S: Final = 60.0
"""The longest wait that a provider may ask for; a longer one is cut to this."""
MAX_WORDS: Final = 600
"""How much of what a provider or an exception says goes into a run's error."""

_TRANSIENT_STATUS: Final = frozenset({408, 409, 429})
_TRANSIENT: Final = (
    ModelConnectionError,
    ModelRateLimitError,
    ModelUnavailableError,
    ModelServerError,
    ConnectionError,
    TimeoutError,
)
_SECRET: Final = re.compile(
    r"\b(?:sk|pk|rk|xai|gsk)-[\w*-]{6,}"  # keys by their usual beginnings
    r"|\bAIza[\w-]{20,}"
    r"|\beyJ[\w-]{10,}\.[\w.-]+"  # a JSON web token
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user and password of an address
    r"|(?i:\b(?:key|token|secret|password|bearer|basic))[\s=:'\"]+(?=[\w.~+/-]*\d)[\w.~+/-]{8,}"
)
_CODES: Final[Mapping[type[Exception], str]] = {
    UsageLimitExceeded: "usage_limit",
    ModelTimeoutError: "model_timeout",
    ModelRequestTimeout: "model_timeout",
}
_OUTPUT_RETRIES_EXCEEDED: Final = "Exceeded maximum output retries"


def is_transient(error: BaseException) -> bool:
    """Whether the same model call may succeed if it is made again."""
    if isinstance(error, FallbackExceptionGroup):
        return any(is_transient(one) for one in error.exceptions)
    if isinstance(error, ModelQuotaExceededError):
        return False
    if isinstance(error, ModelHTTPError) and error.provider_retry_hint is not None:
        return error.provider_retry_hint
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in _TRANSIENT_STATUS or status >= 500  # noqa: PLR2004  server errors
    if isinstance(error, _TRANSIENT):
        return True
    # A provider's own exceptions: named as connection errors, or caused by one.
    cause = error.__cause__
    return _is_transport_error(error) or (cause is not None and _is_transport_error(cause))


def retry_after_s(error: BaseException) -> float | None:
    """How long the provider asked to wait, at most `MAX_RETRY_AFTER_S`; None if it did not say."""
    waits = [wait for one in _with_causes(error) if (wait := _asked_wait(one)) is not None]
    return min(max(0.0, waits[0]), MAX_RETRY_AFTER_S) if waits else None


def engine_error(error: BaseException, *, otherwise: str = "agent_error") -> EngineError:
    """The error that a run ends with, for whatever ended the agent.

    `otherwise` is the code for exceptions that do not tell by themselves whose they are. The words
    are the provider's or the exception's, without what looks like a credential.
    """
    if isinstance(error, EngineError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return _group_error(error, otherwise)
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return EngineError(code, _words(said_by(error)))
    if isinstance(error, ModelHTTPError):
        said = _words(_provider_words(error.body) or "(no explanation)")
        message = f"The model {error.model_name} answered with status {error.status_code}: {said}"
        return EngineError("model_error", message)
    if isinstance(error, UnexpectedModelBehavior):
        is_output = error.message.startswith(_OUTPUT_RETRIES_EXCEEDED)
        code = "output_invalid" if is_output else "model_error"
        return EngineError(code, _words(_with_reason(error)))
    code = "model_error" if isinstance(error, ModelAPIError) else otherwise
    return EngineError(code, _words(named(error)))


def _group_error(group: BaseExceptionGroup[BaseException], otherwise: str) -> EngineError:
    errors = [engine_error(error, otherwise=otherwise) for error in group.exceptions]
    if len(errors) == 1:
        return errors[0]
    return EngineError(errors[-1].code, _words(" | ".join(str(error) for error in errors)))


def _with_reason(error: UnexpectedModelBehavior) -> str:
    reason = error.__cause__
    return error.message if reason is None else f"{error.message}: {said_by(reason)}"


def _words(text: str) -> str:
    """Text for a run's error: one that people may see, and not more of it than they want to."""
    return _SECRET.sub("[removed]", text)[:MAX_WORDS]


def _provider_words(body: Any) -> str:
    """What a provider's error says to people, wherever in the body it stands."""
    while isinstance(body, Mapping):
        body = body.get("error") or body.get("message") or body.get("detail") or str(dict(body))
    return "" if body is None else str(body)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        if isinstance(seen, BaseExceptionGroup):
            for one in seen.exceptions:
                yield from _with_causes(one)
        seen = seen.__cause__


def _asked_wait(error: BaseException) -> float | None:
    if isinstance(wait := getattr(error, "retry_after", None), int | float):
        return float(wait)
    headers = getattr(error, "headers", None) or getattr(
        getattr(error, "response", None), "headers", None
    )
    asked = headers.get("retry-after") if isinstance(headers, Mapping) else None
    return None if asked is None else _parse_retry_after(str(asked))


def _parse_retry_after(asked: str) -> float | None:
    """Seconds, from either of the two forms of the header; None for anything else."""
    try:
        return float(asked)
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(asked)
    except ValueError:
        return None
    return (then.replace(tzinfo=then.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


def _is_transport_error(error: BaseException) -> bool:
    """Whether a connection failed. Known by name, since any HTTP library may have raised it."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or not names.isdisjoint(
        {"TransportError", "APIConnectionError", "ClientConnectionError"}
    )
