"""Snapshots and what lists say about them. Stored names are compatibility data."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from shared.card.value import PromptCard, ToolCard
from shared.message import Message, Role
from shared.version import SNAPSHOT_VERSION


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SnapshotInfo(_Value):
    """What a list of snapshots says."""

    id: str
    conversation_id: str
    """Whose history it holds."""
    agent: str | None = None
    """Who was to go on with it, if anybody."""
    provider: str | None = None
    """Whose models that agent used; None where nobody said."""
    model: str | None = None
    messages: int
    digest: str
    """Of the messages; see `shared.transfer.digest`."""
    created_at: datetime
    """By the clock of who took it, UTC."""
    is_described: bool = False
    """Whether the agent's prompts and tools are in it: a worker had told them."""
    version: int = Field(default=SNAPSHOT_VERSION, ge=1)
    """Which version of `shared.version` one has to know to restore it."""


class Snapshot(_Value):
    """A conversation's messages as they were stored, and its agent's prompts and tools.

    It holds no handlers, no settings and no keys. What a message or a prompt says, it holds.
    """

    info: SnapshotInfo
    history: tuple[Message, ...]
    prompts: tuple[PromptCard, ...] = ()
    tools: tuple[ToolCard, ...] = ()
    has_other_tools: bool = False

    @property
    def system_prompt(self) -> str:
        """The fixed parts of what the agent tells its model, a blank line between them."""
        return "\n\n".join(prompt.text for prompt in self.prompts if prompt.text is not None)

    @property
    def called_tools(self) -> frozenset[str]:
        """The names of the tools that the history calls."""
        return frozenset(
            call.name
            for message in self.history
            if message.role is Role.ASSISTANT
            for call in message.tool_calls
        )
