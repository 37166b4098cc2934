"""Between values and their stored form.

Whatever comes from a store or the queue enters here; what is not ours leaves as one named error.
"""

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import CorruptEntryError, NewerVersionError
from shared.message import MESSAGE_VERSION, Message

Value = TypeVar("Value", bound=BaseModel)


def encode(value: BaseModel) -> str:
    """The stored form of a value: JSON with full field names."""
    return value.model_dump_json()


def decode(kind: type[Value], stored: str | bytes, *, where: str) -> Value:
    """Read what `encode` wrote. `where` names the entry in the error.

    Raises:
        CorruptEntryError: It is not a stored `kind`.
    """
    try:
        return kind.model_validate_json(stored)
    except ValidationError as error:
        raise CorruptEntryError(f"{where} is not a readable {kind.__name__}: {error}") from error


def decode_message(stored: str | bytes, *, cursor: str) -> Message:
    """Read a stored message and give it the cursor that it was found under.

    Raises:
        NewerVersionError: A newer version of this project wrote it.
        CorruptEntryError: It is not a message.
    """
    try:
        message = Message.model_validate_json(stored)
    except ValidationError as error:
        version = _version_of(stored)
        if version is not None and version > MESSAGE_VERSION:
            raise NewerVersionError(
                f"The message at {cursor} has version {version}, this process reads up to "
                f"{MESSAGE_VERSION}; update it."
            ) from error
        raise CorruptEntryError(f"The entry at {cursor} is not a message: {error}") from error
    return message.at(cursor)


def _version_of(stored: str | bytes) -> int | None:
    try:
        body = json.loads(stored)
    except (ValueError, RecursionError):
        return None
    version = body.get("version") if isinstance(body, dict) else None
    return version if isinstance(version, int) else None
