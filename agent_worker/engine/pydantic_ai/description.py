"""The card of a Pydantic AI agent: what it is, without starting or calling anything of it."""

from collections.abc import Iterator
from typing import Any

from pydantic_ai.agent import AbstractAgent, WrapperAgent
from pydantic_ai.messages import InstructionPart
from pydantic_ai.models import Model
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import FunctionToolset

from shared.card.value import AgentCard, PromptCard, ToolCard, provider_of


def describe_agent(agent: AbstractAgent[Any, Any]) -> AgentCard:
    """The card of an agent. Prompts that are functions are named, and not called."""
    model = agent.model
    name = model.model_id if isinstance(model, Model) else model
    description = getattr(agent, "description", None)
    inner = unwrapped(agent)
    return AgentCard(
        agent=agent.name or "",
        provider=provider_of(name),
        model=name,
        description=description if isinstance(description, str) else None,
        prompts=tuple(_prompts(inner)),
        tools=tuple(_tool_card(tool) for tool in _tools(inner)),
        has_other_tools=any(not isinstance(toolset, FunctionToolset) for toolset in inner.toolsets),
    )


def unwrapped(agent: AbstractAgent[Any, Any]) -> AbstractAgent[Any, Any]:
    """The agent inside of all wrappers."""
    while isinstance(agent, WrapperAgent):
        agent = agent.wrapped
    return agent


def _prompts(agent: AbstractAgent[Any, Any]) -> Iterator[PromptCard]:
    # The library tells an agent's prompts only to a run. Without these attributes, should they ever
    # be called something else, the card has no prompts; a test would notice.
    for text in getattr(agent, "_system_prompts", ()):
        yield PromptCard(text=text)
    for runner in getattr(agent, "_system_prompt_functions", ()):
        yield _dynamic(runner.function)
    for sourced in getattr(agent, "_instructions", ()):
        yield _instruction(getattr(sourced, "instruction", sourced))


def _instruction(instruction: object) -> PromptCard:
    if isinstance(instruction, str):
        return PromptCard(text=instruction)
    if isinstance(instruction, InstructionPart):
        return PromptCard(text=instruction.content, name=getattr(instruction, "name", None))
    return _dynamic(instruction)


def _dynamic(function: object) -> PromptCard:
    """A function, or a template that is filled in for each run."""
    name = getattr(function, "__name__", None)
    return PromptCard(is_dynamic=True, name=name if isinstance(name, str) else None)


def _tools(agent: AbstractAgent[Any, Any]) -> Iterator[ToolDefinition]:
    """Tools that are known without starting anything, those included that end a run."""
    known: dict[str, ToolDefinition] = {}
    for toolset in agent.toolsets:
        if isinstance(toolset, FunctionToolset):
            for name, tool in toolset.tools.items():
                known.setdefault(name, tool.tool_def)
    output = getattr(agent, "_output_toolset", None)
    for definition in getattr(output, "_tool_defs", ()):
        known.setdefault(definition.name, definition)
    yield from known.values()


def _tool_card(tool: ToolDefinition) -> ToolCard:
    return ToolCard(
        name=tool.name,
        description=tool.description,
        parameters=dict(tool.parameters_json_schema),
    )
