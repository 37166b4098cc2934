"""Bounds: what one run may take, once everybody who has a say was heard."""

from dataclasses import dataclass
from typing import TypeVar

from agent_worker.definition import AgentOptions
from agent_worker.engine.protocol import EngineLimits
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.protocol import WindowPolicy
from shared.run import RunOptions
from shared.settings import Settings

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of one run, with nothing left open.

    Attributes:
        history_size: Messages that the model sees when the run starts, its input included. For
            windows that count otherwise it means something only where the run asked for it.
        asked_size: The same, where the run itself asked for it; None elsewhere.
        window: Which messages these are.
        time_limit_s: How long the engine may take under one lease.
        save_on_iteration: Whether each message is stored the moment it exists.
        stream_text: Whether pieces of answers are published while the model writes them.
        engine: What the engine keeps itself.
    """

    history_size: int
    asked_size: int | None
    window: WindowPolicy
    time_limit_s: float
    save_on_iteration: bool
    stream_text: bool
    engine: EngineLimits


def resolve_bounds(run: RunOptions, agent: AgentOptions, settings: Settings) -> Bounds:
    """Who submitted the run decides first, then the agent's definition, then the settings."""
    return Bounds(
        history_size=_first(
            settings.history_size, run.history_size, agent.history_size, _size_of(agent.window)
        ),
        asked_size=run.history_size,
        window=agent.window,
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
            shorten_results_bytes=_first(
                settings.shorten_results_bytes, agent.shorten_results_bytes
            ),
        ),
    )


def _size_of(window: WindowPolicy) -> int | None:
    return window.size if isinstance(window, LastMessages) else None


def _first(default: Value, *wishes: Value | None) -> Value:
    """The first wish that is one; zero counts (no retries at all is a wish)."""
    return next((wish for wish in wishes if wish is not None), default)
