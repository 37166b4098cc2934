"""Requests: what a caller of `submit` may say, checked before anything leaves the process."""

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from shared.conversation.config import ConversationConfig
from shared.errors import PayloadTooLargeError, RequestError
from shared.identifier import PARTITIONS, check_id, new_run_id, partition_of
from shared.message import Content, ContentPart
from shared.nesting import MAX_DEPTH
from shared.run import NewRun, RunOptions
from shared.settings import Settings

Value = TypeVar("Value", bound=BaseModel)


def build_run(
    settings: Settings,
    agent: str,
    content: str | Sequence[ContentPart],
    *,
    conversation_id: str | None,
    idempotency_key: str | None,
    metadata: Mapping[str, JsonValue] | None,
    options: RunOptions,
    **fields: object,
) -> NewRun:
    """A run that a ledger can take, with an id in the partition of its conversation.

    A run that is alone lives in the partition of its idempotency key, so that the key is found
    again, or else anywhere. `fields` are the rest of `NewRun`.

    Raises:
        InvalidIdError: An id that breaks the rule of `shared.identifier`.
        PayloadTooLargeError: The input or the metadata exceeds its setting.
        RequestError: A value that cannot be stored; the message says what to change.
    """
    check_id(agent, "agent name")
    if conversation_id is not None:
        check_id(conversation_id, "conversation id")
    if idempotency_key is not None:
        check_id(idempotency_key, "idempotency key")
    values = {
        "id": new_run_id(_partition(conversation_id, idempotency_key)),
        "agent": agent,
        "input": content if isinstance(content, str) else _parts(content),
        "conversation_id": conversation_id,
        "idempotency_key": idempotency_key,
        "metadata": _plain(metadata),
        "options": options,
        **fields,
    }
    new = _validated(NewRun, values)
    _check_payload("input", _jsonable(new.input), settings.max_input_bytes)
    _check_payload("metadata", new.metadata, settings.max_metadata_bytes)
    return new


def build_options(
    config: ConversationConfig | None, *, save_on_iteration: bool | None, **bounds: float | None
) -> RunOptions:
    """What the caller said, else what the conversation config says, else nothing.

    A size that the config merely has by default is nothing: the agent's definition decides then.

    Raises:
        RequestError: A bound that is out of its range.
    """
    values: dict[str, Any] = dict(bounds)
    if config is not None and "size" in config.model_fields_set and bounds["history_size"] is None:
        values["history_size"] = config.size
    if save_on_iteration is None:
        save_on_iteration = config is None or config.save_on_iteration
    return _validated(RunOptions, {**values, "save_on_iteration": save_on_iteration})


def check_metadata(
    metadata: Mapping[str, JsonValue] | None, settings: Settings
) -> dict[str, JsonValue]:
    """Metadata that can be stored.

    Raises:
        PayloadTooLargeError: It exceeds its setting.
        RequestError: It holds what is not JSON.
    """
    plain = _plain(metadata)
    _check_payload("metadata", plain, settings.max_metadata_bytes)
    return plain


def _partition(conversation_id: str | None, idempotency_key: str | None) -> int:
    home = conversation_id if conversation_id is not None else idempotency_key
    return secrets.randbelow(PARTITIONS) if home is None else partition_of(home)


def _parts(content: object) -> tuple[object, ...]:
    if isinstance(content, list | tuple) and content:
        return tuple(content)
    raise RequestError(
        "The input must be a string, or a list of one or more content parts (TextPart, MediaPart, "
        f"DataPart), not {'an empty list' if content in ([], ()) else type(content).__name__}."
    )


def _plain(metadata: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise RequestError(
            f"The metadata must be a dict of JSON values, not {type(metadata).__name__}."
        )
    plain = dict(metadata)
    # Before pydantic, whose errors about JSON values name a validator and not the value.
    _check_json(plain, "metadata")
    return plain


def _validated(kind: type[Value], values: dict[str, Any]) -> Value:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise RequestError(f"{where or 'The request'}: {first['msg']}.") from error


def _jsonable(content: Content) -> JsonValue:
    return content if isinstance(content, str) else [part.model_dump() for part in content]


def _check_payload(what: str, value: JsonValue, limit: int) -> None:
    """Refuse what is not plain JSON text, and what is larger than the setting."""
    _check_json(value, what)
    try:
        size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    except ValueError as error:  # an integer with thousands of digits
        raise RequestError(f"The {what} cannot be written as JSON: {error}.") from error
    if size > limit:
        setting = f"max_{what}_bytes"
        raise PayloadTooLargeError(
            f"The {what} takes {size} bytes as JSON; {setting} (AGENTS_{setting.upper()}) is "
            f"{limit}. Shorten it, pass a link to it instead, or raise the setting."
        )


def _check_json(value: object, what: str) -> None:
    """Refuse what would be stored as something else, or could be stored and never read again."""
    pending: list[tuple[object, int]] = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, str):
            _check_text(item, what)
        elif isinstance(item, dict | list):
            pending += [(inner, depth + 1) for inner in _inside(item, depth, what)]
        elif isinstance(item, float) and not math.isfinite(item):
            raise RequestError(f"The {what} holds {item}, which is not JSON. Use null or a string.")
        elif item is not None and not isinstance(item, bool | int | float):
            raise RequestError(
                f"The {what} holds a {type(item).__name__}, which is not JSON. Use strings, "
                "numbers, booleans, null, lists and dicts."
            )


def _inside(container: dict[object, object] | list[object], depth: int, what: str) -> list[object]:
    """The values, and the keys, that a container holds."""
    if depth == MAX_DEPTH:
        raise RequestError(f"The {what} is nested deeper than {MAX_DEPTH} levels; flatten it.")
    if isinstance(container, list):
        return container
    for key in container:
        if not isinstance(key, str):
            raise RequestError(f"The {what} has the key {key!r:.60}; keys must be strings.")
    return [*container, *container.values()]


def _check_text(text: str, what: str) -> None:
    """Refuse characters that UTF-8 or some store has no place for."""
    if "\0" in text:
        raise RequestError(
            f"The {what} holds a NUL character (at {text.index(chr(0))}). Remove it, or pass "
            "binary data as a MediaPart with base64 data."
        )
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"The {what} holds half of a surrogate pair (at {error.start}), which is not text. "
            "Decode the bytes it came from with errors='replace'."
        ) from error
