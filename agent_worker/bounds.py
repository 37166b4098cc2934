"""Bounds: what one run may take, once everybody who has a say was heard."""

from dataclasses import dataclass
from typing import TypeVar

from agent_worker.definition import AgentOptions
from agent_worker.engine.protocol import EngineLimits
from shared.run import RunOptions
from shared.settings import Settings

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one run, with nothing left open.

    Attributes:
        history_size: Messages that the model sees when the run starts, its input included.
        time_limit_s: How long the engine may take under one lease.
        save_on_iteration: Whether each message is stored the moment it exists.
        stream_text: Whether pieces of answers are published while the model writes them.
        engine: What the engine keeps itself.
    """

    history_size: int
    time_limit_s: float
    save_on_iteration: bool
    stream_text: bool
    engine: EngineLimits


def resolve_bounds(run: RunOptions, agent: AgentOptions, settings: Settings) -> Bounds:
    """Who submitted the run decides first, then the agent's definition, then the settings."""
    return Bounds(
        history_size=_first(settings.history_size, run.history_size, agent.history_size),
        time_limit_s=_first(settings.time_limit_s, run.time_limit_s, agent.time_limit_s),
        save_on_iteration=run.save_on_iteration,
        stream_text=agent.stream_text,
        engine=EngineLimits(
            max_rounds=_first(settings.max_rounds, run.max_rounds, agent.max_rounds),
            model_timeout_s=_first(settings.model_timeout_s, agent.model_timeout_s),
            tool_timeout_s=_first(settings.tool_timeout_s, agent.tool_timeout_s),
            model_retries=_first(settings.model_retries, agent.model_retries),
            max_message_bytes=settings.max_message_bytes,
            max_result_bytes=_first(settings.max_result_bytes, agent.max_result_bytes),
            oversize_result=_first(settings.oversize_result, agent.oversize_result),
        ),
    )


def _first(default: Value, *wishes: Value | None) -> Value:
    """The first wish that is one; zero counts (no retries at all is a wish)."""
    return next((wish for wish in wishes if wish is not None), default)
