"""Retention: how long conversations are kept after their last activity, and what comes then."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RetentionRule(BaseModel):
    """A rule for managed conversations, of one channel or agent or of all.

    All rules that fit a conversation apply to it, each at its own time: archive after 30 days and
    purge after 365, say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["archive", "purge"]
    """archive: move its messages to the archive. purge: delete all that is kept of it."""
    after_days: float = Field(gt=0)
    """Days after its last activity; parts of a day are fine."""
    channel: str | None = None
    agent: str | None = None

    @property
    def after_s(self) -> float:
        """The same in seconds."""
        return self.after_days * 86_400
