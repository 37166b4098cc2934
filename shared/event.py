"""Events: what a watcher of one run sees besides its messages.

Events live for minutes, not for ever: history is the truth, events are the running commentary.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.message import Message, Sealed, is_none
from shared.run import RunStatus


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    cursor: str | None = Field(default=None, exclude=True)


class StatusEvent(_Event):
    """The run has a new status, or its messages were rolled back."""

    type: Literal["status"] = "status"
    status: RunStatus
    worker_id: str | None = None
    attempt: int = 0
    """Which lease this is about, from 1."""
    rolled_back: bool = False
    created_at: datetime


class DeltaEvent(_Event):
    """A piece of text of the answer that the model is writing.

    The pieces of one (`attempt`, `position`), in order, are the start of the message that will be
    stored at `position`. A new attempt starts over, so a reader drops what older attempts said.
    """

    type: Literal["delta"] = "delta"
    text: str
    position: int
    attempt: int
    sealed: Sealed | None = Field(default=None, exclude_if=is_none)
    """The text, as it is stored where runs are encrypted; it is empty then."""


class MessageEvent(_Event):
    """A message was stored."""

    type: Literal["message"] = "message"
    message: Message


class RemovedEvent(BaseModel):
    """Messages of a conversation that its watcher has seen are gone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["removed"] = "removed"
    run_id: str | None = None
    """The run that was rolled back: all of its messages are gone, and no others.

    None: read the history again. The conversation was cleared, or the watch was resumed behind a
    message that was removed since.
    """


StoredEvent = Annotated[StatusEvent | DeltaEvent, Field(discriminator="type")]
RunEvent = StatusEvent | DeltaEvent | MessageEvent

stored_event_adapter: TypeAdapter[StatusEvent | DeltaEvent] = TypeAdapter(StoredEvent)
