"""A made-up recording, small enough to be seen at a glance, and a bare way to ask for answers."""

from collections.abc import Sequence
from typing import Any

import httpx

from tests.model_server import Message, Recording


def user(text: str) -> Message:
    """Write down a user message."""
    return {"role": "user", "content": text}


def assistant(text: str | None, *calls: tuple[str, str, str]) -> Message:
    """Write down an assistant message; a call is its id, the tool's name and the arguments."""
    message = {"role": "assistant", "content": text}
    if not calls:
        return message
    return message | {
        "tool_calls": [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in calls
        ]
    }


def tool(call_id: str, name: str, content: str) -> Message:
    """Write down a tool's result."""
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": content}


SYSTEM: Message = {"role": "system", "content": "You know the weather."}

MESSAGES: tuple[Message, ...] = (
    SYSTEM,
    user("How is Rome?"),
    assistant(None, ("a", "weather", '{"city": "Rome"}'), ("b", "weather", '{"city": "Rome"}')),
    tool("a", "weather", "sunny"),
    tool("b", "weather", ""),
    assistant("Sunny, it seems."),
    user("Thanks"),
    assistant("Let me look again.", ("c", "clock", "{}")),
    tool("c", "clock", "12:00"),
    assistant("At noon: sunny."),
    user("Thanks"),
    assistant("You are welcome."),
    user("And"),
)

TOOLS = tuple(
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Tells the {name}.",
            "parameters": {"type": "object", "properties": properties},
        },
    }
    for name, properties in (("weather", {"city": {"type": "string"}}), ("clock", {}))
)

RECORDING = Recording(
    id="made-up/weather:1",
    source="made-up",
    model="nobody",
    messages=MESSAGES,
    replay_len=len(MESSAGES) - 1,
    tools=TOOLS,
)


def ask(base_url: str, model: str, messages: Sequence[Message], **options: Any) -> httpx.Response:
    """Post one chat request as it stands, without a client's retries and checks."""
    body = {"model": model, "messages": list(messages), **options}
    # There is no TLS here, and reading all certificates takes longer than the request.
    return httpx.post(f"{base_url}/chat/completions", json=body, timeout=20, verify=False)


def said(response: httpx.Response) -> Message:
    """Return the assistant message of a completion."""
    assert response.status_code == 200, response.text
    message: Message = response.json()["choices"][0]["message"]
    return message


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    """Return an error's status, code and message."""
    error = response.json()["error"]
    return response.status_code, error["code"], error["message"]
