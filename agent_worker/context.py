"""What code that runs inside an agent can ask: which run is this, which call of which tool."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run that is being executed."""

    run_id: str
    agent: str
    conversation_id: str | None = None
    attempt: int = 1
    """Which lease this is, from 1. Greater than 1: the run was taken over."""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The tool call that is being executed."""

    run: RunInfo
    tool_name: str
    tool_call_id: str
    """From the provider; not unique. Use `idempotency_key` to tell calls apart."""
    idempotency_key: str
    """``<run id>.<position of the assistant's message>.<index of the call>``.

    The same when the call is executed again because a worker died under it, so that a payment or
    an e-mail can be sent once.
    """


_run: ContextVar[RunInfo] = ContextVar("agent_worker_run")
_tool: ContextVar[ToolContext] = ContextVar("agent_worker_tool")


def run_info() -> RunInfo:
    """The run that the calling code belongs to.

    Raises:
        LookupError: It does not run inside a run.
    """
    try:
        return _run.get()
    except LookupError:
        raise LookupError("run_info() works only in code that an agent's run calls.") from None


def tool_context() -> ToolContext:
    """The tool call that the calling code belongs to, in async and in sync tools.

    Raises:
        LookupError: It does not run inside a tool call.
    """
    try:
        return _tool.get()
    except LookupError:
        raise LookupError("tool_context() works only inside of a tool function.") from None


def idempotency_key(run_id: str, position: int, index: int) -> str:
    """The key of the `index`-th call of the assistant's message at `position` of a run."""
    return f"{run_id}.{position}.{index}"


@contextmanager
def in_run(info: RunInfo) -> Iterator[None]:
    """Make `run_info()` answer `info` inside the block."""
    token = _run.set(info)
    try:
        yield
    finally:
        _run.reset(token)


@contextmanager
def in_tool(context: ToolContext) -> Iterator[None]:
    """Make `tool_context()` answer `context` inside the block."""
    token = _tool.set(context)
    try:
        yield
    finally:
        _tool.reset(token)
