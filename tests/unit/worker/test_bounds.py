"""Who decides how long a run may take."""

from agent_worker.bounds import resolve_bounds
from agent_worker.definition import AgentOptions
from agent_worker.window.last_messages import LastMessages
from shared.run import RunOptions
from shared.settings import Settings

SETTINGS = Settings(history_size=20, time_limit_s=100, max_rounds=50, model_retries=5)


def test_settings_decide_what_nobody_else_does() -> None:
    """Without wishes the worker's settings hold."""
    bounds = resolve_bounds(RunOptions(), AgentOptions(), SETTINGS)
    assert (bounds.history_size, bounds.time_limit_s, bounds.engine.max_rounds) == (20, 100, 50)
    assert bounds.engine.model_timeout_s == SETTINGS.model_timeout_s
    assert bounds.engine.tool_timeout_s == SETTINGS.tool_timeout_s


def test_an_agents_definition_comes_before_the_settings() -> None:
    """Each bound of a definition replaces that of the settings."""
    agent = AgentOptions(
        history_size=7,
        time_limit_s=8,
        max_rounds=9,
        model_timeout_s=10,
        tool_timeout_s=11,
        stream_text=False,
    )
    bounds = resolve_bounds(RunOptions(), agent, SETTINGS)
    assert (bounds.history_size, bounds.time_limit_s, bounds.stream_text) == (7, 8, False)
    assert bounds.engine.max_rounds == 9
    assert (bounds.engine.model_timeout_s, bounds.engine.tool_timeout_s) == (10, 11)


def test_a_runs_options_come_first() -> None:
    """Who submits a run knows best what it needs."""
    run = RunOptions(history_size=1, time_limit_s=2, max_rounds=3, save_on_iteration=False)
    agent = AgentOptions(history_size=7, time_limit_s=8, max_rounds=9)
    bounds = resolve_bounds(run, agent, SETTINGS)
    assert (bounds.history_size, bounds.time_limit_s, bounds.engine.max_rounds) == (1, 2, 3)
    assert not bounds.save_on_iteration


def test_a_window_of_last_messages_is_a_history_size() -> None:
    """A run's own comes before it, the settings' behind it."""
    agent = AgentOptions(window=LastMessages(7))
    assert resolve_bounds(RunOptions(), agent, SETTINGS).history_size == 7
    asked = resolve_bounds(RunOptions(history_size=3), agent, SETTINGS)
    assert (asked.history_size, asked.asked_size) == (3, 3)
    assert resolve_bounds(RunOptions(), AgentOptions(), SETTINGS).asked_size is None


def test_results_are_shortened_as_the_agent_or_the_settings_say() -> None:
    """Nobody's wish shows them whole."""
    assert (
        resolve_bounds(RunOptions(), AgentOptions(), SETTINGS).engine.shorten_results_bytes is None
    )
    settings = Settings(shorten_results_bytes=5_000)
    assert (
        resolve_bounds(RunOptions(), AgentOptions(), settings).engine.shorten_results_bytes == 5000
    )
    agent = AgentOptions(shorten_results_bytes=2_000)
    assert resolve_bounds(RunOptions(), agent, settings).engine.shorten_results_bytes == 2_000


def test_zero_is_a_wish() -> None:
    """No retries at all is something to ask for, not an open question."""
    bounds = resolve_bounds(RunOptions(), AgentOptions(model_retries=0), SETTINGS)
    assert bounds.engine.model_retries == 0
