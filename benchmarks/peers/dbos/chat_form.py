"""Messages of Pydantic AI in the form in which they are compared."""

import json

from _work import Message
from pydantic_ai.messages import (
    ModelRequestPart,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)


def chat_form(part: ModelRequestPart | ModelResponsePart) -> Message:
    """Read one part; each message of this work has one."""
    match part:
        case UserPromptPart():
            return {"role": "user", "content": part.content}
        case ToolReturnPart():
            return {"role": "tool", "tool_call_id": part.tool_call_id, "content": part.content}
        case ToolCallPart():
            function = {"name": part.tool_name, "arguments": json.dumps(part.args_as_dict())}
            call = {"id": part.tool_call_id, "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case TextPart():
            return {"role": "assistant", "content": part.content}
    raise ValueError(f"Nobody said this: {part!r}")
