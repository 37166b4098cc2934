"""An agent's card: its prompts, tools and model, in words and JSON. Never code or secrets."""

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.message import is_empty, is_none


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class PromptCard(_Value):
    """A part of what an agent tells its model before any conversation."""

    text: str | None = Field(default=None, exclude_if=is_none)
    """None where it is computed anew for each run."""
    is_dynamic: bool = Field(default=False, exclude_if=is_empty)
    """It is computed for each run, by a function of the agent."""
    name: str | None = Field(default=None, exclude_if=is_none)
    """Of that function, where it has one."""


class ToolCard(_Value):
    """A tool as a model sees it."""

    name: str
    description: str | None = Field(default=None, exclude_if=is_none)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """The JSON schema of its arguments."""


class AgentCard(_Value):
    """What an agent is, as far as it can be told without its code."""

    agent: str
    """The name under which it is served."""
    provider: str | None = None
    """Whose models it uses, such as ``openai``; None where that is not known or chosen late."""
    model: str | None = None
    description: str | None = None
    prompts: tuple[PromptCard, ...] = ()
    """In the order in which the model is told them."""
    tools: tuple[ToolCard, ...] = ()
    has_other_tools: bool = False
    """There are more, known only once it runs: those of an MCP server, for instance."""

    @property
    def tool_names(self) -> frozenset[str]:
        """The names of the tools that are known."""
        return frozenset(tool.name for tool in self.tools)


def provider_of(model: str | None) -> str | None:
    """The provider in a model's name: ``openai`` of ``openai-responses:gpt-5.2``."""
    if model is None or ":" not in model:
        return None
    parts = model.removeprefix("gateway/").partition(":")
    return _FAMILIES.get(parts[0], parts[0])


_FAMILIES = {
    "openai-chat": "openai",
    "openai-responses": "openai",
    "google-gla": "google",
    "google-vertex": "google",
}
"""Names of one provider's interfaces: a history of one can be continued with another."""
