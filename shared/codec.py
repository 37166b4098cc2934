"""Between values and their stored form.

Whatever comes from a store or the queue enters here; what is not ours leaves as one named error.
"""

import json
import re
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from shared.errors import CorruptEntryError, NewerVersionError, UnstorableError
from shared.message import Message
from shared.nesting import MAX_DEPTH
from shared.version import FORMAT_VERSION

Value = TypeVar("Value", bound=BaseModel)

_LONG_NUMBER: Final = re.compile(r"[0-9]{4000}")
"""Parsers give up at 4300 digits."""


def encode(value: BaseModel) -> str:
    """The stored form of a value: JSON with full field names.

    Half of a surrogate pair, which models do write and UTF-8 cannot hold, becomes U+FFFD: one bad
    character must not cost a run its message.

    Raises:
        UnstorableError: It holds something that JSON has no form for, or is nested so deeply that
            nobody could read it again.
    """
    try:
        stored = _written(value)
        if _is_doubtful(stored):
            type(value).model_validate_json(stored)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise UnstorableError(
            f"A {type(value).__name__} cannot be written as JSON that can be read again: it is "
            "nested too deeply, or holds something that JSON has no form for."
        ) from error
    return stored


def stored_form(value: Value) -> Value:
    """The value as it would be read again. Raises as `encode`."""
    return decode(type(value), encode(value), where="a value that was just written")


def _written(value: BaseModel) -> str:
    try:
        return value.model_dump_json()
    except PydanticSerializationError:
        return (
            type(value).model_validate(storable(value.model_dump(warnings=False))).model_dump_json()
        )


def _is_doubtful(stored: str) -> bool:
    """Whether a reader may not follow: into the depth of it, or through a number without end.

    Nearly nothing is, so that nearly nothing is read to find out.
    """
    is_deep = stored.count("[") + stored.count("{") > MAX_DEPTH
    return is_deep or _LONG_NUMBER.search(stored) is not None


def storable(value: Any) -> Any:
    """A value of strings, numbers, lists and dictionaries in which all text can be UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {storable(name): storable(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def decode(kind: type[Value], stored: str | bytes, *, where: str) -> Value:
    """Read what `encode` wrote. `where` names the entry in the error.

    Raises:
        CorruptEntryError: It is not a stored `kind`.
    """
    try:
        return kind.model_validate_json(stored)
    except ValidationError as error:
        raise CorruptEntryError(
            f"{where} is not a readable {kind.__name__}: {_explain(error)}"
        ) from error


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
        if version is not None and version > FORMAT_VERSION:
            raise NewerVersionError(
                f"The message at {cursor} has version {version}, this process reads up to "
                f"{FORMAT_VERSION}; update it.",
                version,
            ) from error
        raise CorruptEntryError(
            f"The entry at {cursor} is not a message: {_explain(error)}"
        ) from error
    return message.at(cursor)


def _explain(error: ValidationError) -> str:
    """Where the first fault is and of what kind. Without the value: logs hold no messages."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"])[:100]
    return f"{where or 'all of it'} ({first['type']})"


def _version_of(stored: str | bytes) -> int | None:
    try:
        body = json.loads(stored)
    except (ValueError, RecursionError):
        return None
    version = body.get("version") if isinstance(body, dict) else None
    return version if isinstance(version, int) else None
