"""Conversation config: what a client may say about the conversations it submits to."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.run import DEFAULT_HISTORY_SIZE


class ConversationConfig(BaseModel):
    """How conversations are kept and how much of one a model sees."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["redis", "memory"] = "redis"
    """Where messages live. ``memory`` is for local mode: other processes cannot see it."""
    size: int = Field(default=DEFAULT_HISTORY_SIZE, ge=1)
    """How many messages a model sees when a run starts, the run's input included."""
    save_on_iteration: bool = True
    """True: every message is stored the moment it exists. False: one atomic write at the end."""
