"""The registry: from modules that hold agents to what a worker serves."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

from agent_worker.definition import AgentDefinition, AgentOptions, DepsFactory
from agent_worker.engine.function import FunctionEngine
from agent_worker.engine.protocol import Engine
from agent_worker.window.choice import policy_of
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.own_choice import Choose
from agent_worker.window.protocol import WindowPolicy
from shared.errors import AgentDefinitionError
from shared.settings import OversizePolicy


def serve(  # noqa: PLR0913  one keyword for each bound
    agent: object,
    *,
    name: str | None = None,
    deps: DepsFactory | None = None,
    history_size: int | None = None,
    max_rounds: int | None = None,
    time_limit_s: float | None = None,
    model_timeout_s: float | None = None,
    tool_timeout_s: float | None = None,
    model_retries: int | None = None,
    max_result_bytes: int | None = None,
    oversize_result: OversizePolicy | None = None,
    shorten_results_bytes: int | None = None,
    window: WindowPolicy | Choose | None = None,
    stream_text: bool = True,
) -> AgentDefinition:
    """Register an agent: put what this returns into an attribute of a module that workers load.

    `agent` is a Pydantic AI agent, an async function (see `FunctionEngine`) or an `Engine`. `deps`
    makes the dependencies of each run, for Pydantic AI agents. `window` is what the model sees of
    the conversation before a run: `LastMessages`, `TokenBudget`, `Summarise`, a `WindowPolicy` or a
    function (see `OwnChoice`). What is None is left to the worker's settings.

    Raises:
        AgentDefinitionError: It cannot be served like this.
        InvalidIdError: The name breaks the rule for ids.
    """
    engine = _engine_of(agent, deps, name)
    chosen = name or engine.info.name
    if not chosen:
        raise AgentDefinitionError(
            "The agent has no name. Pass `name=` to serve(), or give one to the agent."
        )
    options = AgentOptions(
        history_size=history_size,
        max_rounds=max_rounds,
        time_limit_s=time_limit_s,
        model_timeout_s=model_timeout_s,
        tool_timeout_s=tool_timeout_s,
        model_retries=model_retries,
        max_result_bytes=max_result_bytes,
        oversize_result=oversize_result,
        shorten_results_bytes=shorten_results_bytes,
        window=policy_of(window),
        stream_text=stream_text,
    )
    _check_options(chosen, options)
    return AgentDefinition(chosen, engine, options)


def load_agents(modules: Sequence[str | ModuleType]) -> dict[str, AgentDefinition]:
    """Import modules and collect the agents in them, by name.

    An agent is what `serve` returned, or a bare Pydantic AI agent in a public attribute; one
    without a name is called as its attribute. Modules are looked for in the current folder, too.

    Raises:
        AgentDefinitionError: A module cannot be imported, there is no agent in any of them, or two
            different agents have one name.
    """
    found = [place for module in modules for place in _search(_imported(module))]
    served = {id(_agent_of(place.definition)) for place in found if place.is_explicit}
    agents: dict[str, _Found] = {}
    for place in found:
        if not place.is_explicit and id(_agent_of(place.definition)) in served:
            continue  # the module names the agent and, in another attribute, serves it
        first = agents.setdefault(place.definition.name, place)
        if not first.is_same(place):
            raise AgentDefinitionError(
                f"{first.where} and {place.where} are different agents with one name, "
                f"{place.definition.name!r}. Give one of them another with serve(..., name=...)."
            )
    if not agents:
        names = ", ".join(_name_of(module) for module in modules) or "no module at all"
        raise AgentDefinitionError(
            f"There is no agent in {names}. Put one into an attribute of a module, as in "
            "`support = serve(agent)`, and name that module."
        )
    return {name: place.definition for name, place in agents.items()}


@dataclass(frozen=True, slots=True)
class _Found:
    """An agent, and where it was found."""

    where: str
    definition: AgentDefinition
    is_explicit: bool

    def is_same(self, other: "_Found") -> bool:
        """Whether both are one: imported here and there, or under two names of a module."""
        if self.is_explicit and other.is_explicit:
            return self.definition is other.definition
        return _agent_of(self.definition) is _agent_of(other.definition)


def _search(module: ModuleType) -> Iterator[_Found]:
    for attribute, value in list(vars(module).items()):
        where = f"{module.__name__}.{attribute}"
        if isinstance(value, AgentDefinition):
            yield _Found(where, value, is_explicit=True)
        elif not attribute.startswith("_") and _is_pydantic_ai_agent(value):
            name = getattr(value, "name", None) or attribute
            yield _Found(where, serve(value, name=name), is_explicit=False)


def _imported(module: str | ModuleType) -> ModuleType:
    if isinstance(module, ModuleType):
        return module
    if (folder := os.getcwd()) not in sys.path:  # noqa: PTH109  sys.path holds strings
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise AgentDefinitionError(
            f"The module {module!r} cannot be imported: {_reason(module, folder, error)}"
        ) from error


def _reason(module: str, folder: str, error: Exception) -> str:
    """Why an import failed; where modules are looked for only matters for one that is not found."""
    if "/" in module or module.startswith(".") or module.endswith(".py"):
        return "it is named like a file. Name it as in an import statement: my_project.agents."
    reason = f"{type(error).__name__}: {str(error).removesuffix('.')}."
    name = getattr(error, "name", None)
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{name}."):
        reason += f" It was looked for in {folder} and on PYTHONPATH."
    return reason


def _engine_of(agent: Any, deps: DepsFactory | None, name: str | None) -> Engine:
    if _is_pydantic_ai_agent(agent):
        from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine

        return PydanticAIEngine(agent, deps)
    if deps is not None:
        raise AgentDefinitionError("`deps` is for Pydantic AI agents; this is something else.")
    if inspect.iscoroutinefunction(agent) or inspect.isasyncgenfunction(agent):
        return FunctionEngine(agent, name=name)
    if not inspect.isclass(agent) and hasattr(agent, "info") and hasattr(agent, "run"):
        return cast(Engine, agent)
    raise AgentDefinitionError(
        f"{agent!r} cannot be served. Pass a Pydantic AI agent, an `async def` function or an "
        "object with the members of `agent_worker.engine.protocol.Engine`."
    )


def _is_pydantic_ai_agent(value: object) -> bool:
    """Without importing the library: an agent of it can only exist where it is loaded."""
    library = sys.modules.get("pydantic_ai.agent")
    return library is not None and isinstance(value, library.AbstractAgent)


def _agent_of(definition: AgentDefinition) -> object:
    return getattr(definition.engine, "agent", definition.engine)


def _check_options(name: str, options: AgentOptions) -> None:
    bounds: Mapping[str, tuple[float | None, Callable[[float], bool], str]] = {
        "history_size": (options.history_size, lambda value: value >= 1, "at least 1"),
        "max_rounds": (options.max_rounds, lambda value: value >= 1, "at least 1"),
        "time_limit_s": (options.time_limit_s, lambda value: value > 0, "greater than 0"),
        "model_timeout_s": (options.model_timeout_s, lambda value: value > 0, "greater than 0"),
        "tool_timeout_s": (options.tool_timeout_s, lambda value: value > 0, "greater than 0"),
        "model_retries": (options.model_retries, lambda value: value >= 0, "0 or more"),
        "max_result_bytes": (
            options.max_result_bytes,
            lambda value: value >= 1_000,  # noqa: PLR2004  as in the settings: room for the note
            "at least 1000",
        ),
        "shorten_results_bytes": (
            options.shorten_results_bytes,
            lambda value: value >= 1_000,  # noqa: PLR2004  the same
            "at least 1000",
        ),
    }
    for option, (value, is_valid, rule) in bounds.items():
        if value is not None and not is_valid(value):
            raise AgentDefinitionError(f"{option} of agent {name!r} is {value}; make it {rule}.")
    window = options.window
    if options.history_size is not None and window != LastMessages():
        raise AgentDefinitionError(
            f"Agent {name!r} has both a history_size and a window; give one of them. history_size "
            "is short for window=LastMessages(history_size)."
        )


def _name_of(module: str | ModuleType) -> str:
    return module if isinstance(module, str) else module.__name__
