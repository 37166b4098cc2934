"""Bounding: what a tool may give back. It is done before the model or the store sees the result.

So a run that is taken over goes on with the very bytes that the first worker sent to the model.
"""

import dataclasses
from typing import Any, NoReturn

import pydantic_core
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolReturn, is_multi_modal_content, tool_return_ta

from agent_worker.cutting import cut
from agent_worker.engine.protocol import EngineLimits
from agent_worker.saying import said_by
from shared.nesting import MAX_DEPTH, is_too_deep


def bounded(result: Any, tool_name: str, limits: EngineLimits) -> Any:
    """The result as it may be stored and sent.

    Raises:
        ToolFailed: It is no JSON, nested too deeply, or too large where it must not or cannot be
            cut. Its text is for the model.
    """
    if not isinstance(result, ToolReturn):
        return _bounded_value(result, tool_name, limits)
    value = _bounded_value(result.return_value, tool_name, limits)
    content: Any = result.content
    if content:
        content = _bounded_value(content, tool_name, limits, is_prompt=True)
    _check_size(_written(result.metadata), tool_name, limits.max_result_bytes)
    return dataclasses.replace(result, return_value=value, content=content)


def _bounded_value(
    value: Any, tool_name: str, limits: EngineLimits, *, is_prompt: bool = False
) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    written = _written(value)
    if _holds_media(value):
        # Half a picture is none. Room is left for what else is in the message.
        _check_size(written, tool_name, limits.max_message_bytes * 3 // 4)
        return value
    if len(written) <= limits.max_result_bytes:
        return value
    if limits.oversize_result == "fail" or (is_prompt and not isinstance(value, str)):
        _check_size(written, tool_name, limits.max_result_bytes)
    return cut(value if isinstance(value, str) else written.decode(), limits.max_result_bytes)


def _check_size(written: bytes, tool_name: str, limit: int) -> None:
    if len(written) > limit:
        raise ToolFailed(
            f"The result of the tool {tool_name!r} takes {len(written)} bytes; at most {limit} are "
            "allowed. Ask for less, or for a part of it."
        )


def _written(value: Any) -> bytes:
    """The bytes of a text, or the JSON of anything else."""
    try:
        if isinstance(value, str):
            return value.encode()
        written = tool_return_ta.dump_json(value)
        # Read again, too: what nobody can read must not be stored.
        if is_too_deep(pydantic_core.from_json(written)):
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")  # noqa: TRY301
    except Exception as error:  # noqa: BLE001  to write an object is to call its code
        _fail(value, error)
    return written


def _fail(value: Any, error: Exception) -> NoReturn:
    said = said_by(error)[:500]
    raise ToolFailed(
        f"The tool returned a {type(value).__name__} that cannot be written as JSON: {said}"
    ) from error


def _holds_media(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else (value,)
    return any(is_multi_modal_content(item) for item in items)
