"""Conversation config: what a client may say about the conversations it submits to."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shared.conversation.url import check_url
from shared.run import DEFAULT_HISTORY_SIZE

REDIS: Final = "redis"
"""The Redis of the settings."""
MEMORY: Final = "memory"


class ConversationConfig(BaseModel):
    """How conversations are kept and how much of one a model sees.

    Raises:
        ConfigurationError: `backend` is neither a known name nor a URL of a known scheme.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    backend: str = Field(default=REDIS, repr=False)  # a URL may hold a password
    """Where messages live: ``redis`` (that of the settings), ``memory``, or a URL such as
    ``sqlite:///chat.db``; see `shared.conversation.url`. Memory, files and SQLite are for local
    mode, where the default is memory: workers elsewhere cannot see them."""
    size: int = Field(default=DEFAULT_HISTORY_SIZE, ge=1)
    """How many messages a model sees when a run starts, the run's input included."""
    save_on_iteration: bool = True
    """True: every message is stored the moment it exists. False: one atomic write at the end."""

    @field_validator("backend")
    @classmethod
    def _check_backend(cls, backend: str) -> str:
        if backend not in (REDIS, MEMORY):
            check_url(backend)
        return backend

    @property
    def url(self) -> str | None:
        """Where messages live, if that was given as a URL. None leaves it to the settings."""
        if self.backend == MEMORY:
            return "memory://"
        return None if self.backend == REDIS else self.backend
