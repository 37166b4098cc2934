"""Shortening: what a model is shown of results that are stored, and known to the agent, whole.

It is done to each request anew. So a run that is taken over shows the very bytes that the first
worker showed, without anything being stored about it.
"""

import dataclasses
from typing import Any, cast

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelRequestPart, ToolReturnPart

from agent_worker.cutting import NOT_SHOWN, cut


def with_short_results(messages: list[ModelMessage], limit: int | None) -> list[ModelMessage]:
    """The messages as the model is shown them: `limit` bytes of a result at most. None: all of it.

    A structured value that is longer becomes text, the beginning and the end of its JSON. A result
    that holds files stays as it is. Nothing that was given is changed.
    """
    if limit is None:
        return messages
    return [_shortened(message, limit) for message in messages]


def _shortened(message: ModelMessage, limit: int) -> ModelMessage:
    if not isinstance(message, ModelRequest):
        return message
    parts = [_short_part(part, limit) for part in message.parts]
    if all(new is old for new, old in zip(parts, message.parts, strict=True)):
        return message
    return dataclasses.replace(message, parts=parts)


def _short_part(part: ModelRequestPart, limit: int) -> ModelRequestPart:
    if type(part) is not ToolReturnPart or part.files:  # others of its kind hold no tool's result
        return part
    whole = part.model_response_str(wrap_if_error=False)
    shown = cut(whole, limit, NOT_SHOWN)
    if shown == whole:
        return part
    return dataclasses.replace(cast("ToolReturnPart[Any]", part), content=shown)
