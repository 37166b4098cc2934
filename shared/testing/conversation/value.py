"""Ids and messages for the conversation contract."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from shared.identifier import new_run_id
from shared.message import Message, user_draft


def conversation_name() -> str:
    """A conversation id that no other test uses."""
    return f"support:{uuid4().hex}"


def run_name() -> str:
    """A run id of any partition."""
    return new_run_id(0)


def message(run_id: str, position: int, text: str | None = None) -> Message:
    """A user's message with its place in a run."""
    content = text if text is not None else f"{run_id}.{position}"
    return Message.from_draft(user_draft(content), run_id=run_id, position=position)


def messages(run_id: str, positions: Sequence[int] | range) -> list[Message]:
    """A message for each position."""
    return [message(run_id, position) for position in positions]


def imported(text: str) -> Message:
    """A message that no run wrote."""
    return Message(**dict(user_draft(text)), id=uuid4().hex)


def nested(levels: int) -> dict[str, Any]:
    """An object with so many levels of lists in it."""
    value: Any = None
    for _ in range(levels):
        value = [value]
    return {"in": value}


def texts(stored: Sequence[Message]) -> list[str]:
    """What the messages say."""
    return [entry.text for entry in stored]
