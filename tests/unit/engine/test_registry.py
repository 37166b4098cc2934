"""Registering agents, and finding them in modules."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

import agent_worker
from agent_worker import FunctionEngine, PydanticAIEngine, serve
from agent_worker.definition import AgentOptions
from agent_worker.engine.protocol import EngineRequest
from agent_worker.registry import load_agents
from shared.errors import AgentDefinitionError, InvalidIdError


async def answer(request: EngineRequest) -> str:
    """Say yes."""
    return "yes"


def module(name: str = "made_up", **attributes: Any) -> ModuleType:
    """A module as if it had been imported."""
    made = ModuleType(name)
    vars(made).update(attributes)
    return made


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Write a module into the current folder and return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in {"", str(tmp_path)}])
    written: list[str] = []

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


# --- serve ----------------------------------------------------------------------------------------


def test_an_agent_is_served_under_its_name() -> None:
    """With its engine, and bounds left to the worker."""
    definition = serve(Agent(TestModel(), name="support"))

    assert definition.name == "support"
    assert isinstance(definition.engine, PydanticAIEngine)
    assert definition.options == AgentOptions()


def test_a_function_is_served_under_its_name() -> None:
    """An async function is an engine."""
    definition = serve(answer)

    assert definition.name == "answer"
    assert isinstance(definition.engine, FunctionEngine)


def test_an_engine_is_served_as_it_is() -> None:
    """Whoever builds one by hand knows why."""
    engine = PydanticAIEngine(Agent(TestModel(), name="support"))

    assert serve(engine, name="other").engine is engine


def test_bounds_are_kept() -> None:
    """Each keyword ends up in the definition."""
    options = serve(
        answer,
        name="a",
        history_size=1,
        max_rounds=2,
        time_limit_s=3,
        model_timeout_s=4,
        tool_timeout_s=5,
        model_retries=0,
        stream_text=False,
    ).options

    assert options == AgentOptions(
        history_size=1,
        max_rounds=2,
        time_limit_s=3,
        model_timeout_s=4,
        tool_timeout_s=5,
        model_retries=0,
        stream_text=False,
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("history_size", 0),
        ("max_rounds", 0),
        ("time_limit_s", 0),
        ("model_timeout_s", -1),
        ("tool_timeout_s", 0),
        ("model_retries", -1),
    ],
)
def test_bounds_that_make_no_sense_are_refused(option: str, value: int) -> None:
    """When the agent is registered, not in the middle of its first run."""
    with pytest.raises(AgentDefinitionError, match=f"{option} of agent 'a' is {value}; make it"):
        serve(answer, name="a", **{option: value})  # type: ignore[arg-type]


def test_an_agent_needs_a_name() -> None:
    """The error says where to give it."""
    with pytest.raises(AgentDefinitionError, match="Pass `name=` to serve"):
        serve(Agent(TestModel()))


def test_a_name_that_is_no_id_is_refused() -> None:
    """Names are part of keys and queues."""
    with pytest.raises(InvalidIdError, match="agent name"):
        serve(answer, name="../a")


@pytest.mark.parametrize("thing", [len, "agent", None, FunctionEngine, lambda request: "no"])
def test_other_things_cannot_be_served(thing: object) -> None:
    """The error says what can."""
    with pytest.raises(AgentDefinitionError, match="cannot be served"):
        serve(thing, name="a")


def test_dependencies_are_for_pydantic_ai_agents() -> None:
    """A function would never see them."""
    with pytest.raises(AgentDefinitionError, match="deps"):
        serve(answer, deps=lambda run: run)


# --- load_agents ----------------------------------------------------------------------------------


def test_definitions_and_bare_agents_are_found() -> None:
    """A bare agent is called by its own name, or as its attribute."""
    served = serve(answer, name="served")
    made = module(a=served, named=Agent(TestModel(), name="own"), unnamed=Agent(TestModel()))

    agents = load_agents([made])

    assert set(agents) == {"served", "own", "unnamed"}
    assert agents["served"] is served


def test_private_bare_agents_stay_private() -> None:
    """A sub-agent of a tool is no agent of the worker; a definition is meant to be found."""
    made = module(_inner=Agent(TestModel(), name="inner"), _outer=serve(answer, name="outer"))

    assert set(load_agents([made])) == {"outer"}


def test_one_agent_under_two_names_is_one() -> None:
    """Also when another module imported it."""
    served = serve(answer)
    bare = Agent(TestModel(), name="bare")

    agents = load_agents(
        [module(a=served, b=served, c=bare, d=bare), module("other", e=served, f=bare)]
    )

    assert set(agents) == {"answer", "bare"}


def test_an_agent_that_is_served_is_not_served_bare_as_well() -> None:
    """`agent = Agent(...)` and `served = serve(agent, ...)` in one module make one agent."""
    agent = Agent(TestModel(), name="support")
    served = serve(agent, max_rounds=3)

    agents = load_agents([module(agent=agent, served=served)])

    assert agents == {"support": served}


def test_one_agent_may_be_served_under_two_names() -> None:
    """With other bounds each time."""
    agent = Agent(TestModel(), name="support")
    made = module(agent=agent, fast=serve(agent, name="fast"), slow=serve(agent, name="slow"))

    assert set(load_agents([made])) == {"fast", "slow"}


@pytest.mark.parametrize(
    "attributes",
    [
        {"a": Agent(TestModel(), name="x"), "b": Agent(TestModel(), name="x")},
        {"a": serve(answer, name="x"), "b": serve(answer, name="x")},
        {"a": Agent(TestModel(), name="x"), "b": serve(answer, name="x")},
    ],
    ids=["bare", "served", "mixed"],
)
def test_two_agents_with_one_name_are_refused(attributes: dict[str, Any]) -> None:
    """The error names both places."""
    with pytest.raises(AgentDefinitionError, match=r"made_up.a and made_up.b are different agents"):
        load_agents([module(**attributes)])


def test_no_agent_at_all_is_refused() -> None:
    """The error says how one looks like."""
    with pytest.raises(AgentDefinitionError, match=r"no agent in made_up.*serve"):
        load_agents([module(x=1)])
    with pytest.raises(AgentDefinitionError, match="no module at all"):
        load_agents([])


def test_modules_are_imported_by_name_from_the_current_folder(
    write: Callable[[str, str], str],
) -> None:
    """As a worker is started: in the project's folder, with the module's name."""
    name = write(
        "my_agents",
        "from agent_worker import serve\nasync def hello(request): return 'hi'\nx = serve(hello)\n",
    )

    assert set(load_agents([name])) == {"hello"}


def test_a_module_that_is_not_there_is_named(write: Callable[[str, str], str]) -> None:
    """And where it was looked for."""
    with pytest.raises(
        AgentDefinitionError, match=r"'no_such_module' cannot be imported.*PYTHONPATH"
    ):
        load_agents(["no_such_module"])


@pytest.mark.parametrize("name", ["./support.py", "support.py", "agents/support", ".support"])
def test_a_file_is_no_name_of_a_module(name: str) -> None:
    """Importlib's own words about packages and relative imports would lead elsewhere."""
    with pytest.raises(AgentDefinitionError, match=r"named like a file.*import statement"):
        load_agents([name])


def test_a_module_that_fails_is_named_with_its_error(write: Callable[[str, str], str]) -> None:
    """An exception while it is imported is the module's, and is told; it was found, though."""
    name = write("broken_agents", "raise RuntimeError('no key.')")

    with pytest.raises(AgentDefinitionError, match=r"'broken_agents'.*RuntimeError: no key\.$"):
        load_agents([name])


def test_a_module_that_lacks_another_one_is_not_looked_for(
    write: Callable[[str, str], str],
) -> None:
    """What is missing is named, not the place of the module that was found."""
    name = write("lacking_agents", "import not_installed")

    with pytest.raises(AgentDefinitionError, match=r"No module named 'not_installed'\.$"):
        load_agents([name])


# --- imports --------------------------------------------------------------------------------------


def test_importing_the_worker_loads_no_llm_library(tmp_path: Path) -> None:
    """Nor does serving a function: only an agent of the library brings it in."""
    script = (
        "import sys\n"
        "from agent_worker import FunctionEngine, serve\n"
        "async def hello(request): return 'hi'\n"
        "serve(hello)\n"
        "assert not {'pydantic_ai', 'openai', 'tiktoken'} & set(sys.modules), 'loaded'\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_the_public_names_are_there() -> None:
    """What a module with agents may import."""
    assert sorted(agent_worker.__all__) == [
        "AgentDefinition",
        "FunctionEngine",
        "LastMessages",
        "OwnChoice",
        "PydanticAIEngine",
        "RunInfo",
        "Summarise",
        "Summary",
        "TokenBudget",
        "ToolContext",
        "Window",
        "WindowPolicy",
        "WindowRequest",
        "run_info",
        "serve",
        "tool_context",
    ]
    assert all(hasattr(agent_worker, name) for name in agent_worker.__all__)
    assert not hasattr(agent_worker, "anything_else")
