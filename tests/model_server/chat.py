"""Values of the chat-completions form: requests that come in, answers that go out."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

Message: TypeAlias = Mapping[str, Any]
"""One OpenAI chat message as JSON: `role`, `content`, `tool_calls`, `tool_call_id`, `name`."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

FOREVER = math.inf
"""As a delay: never answer, until the client leaves."""

CHARACTERS_PER_TOKEN = 4


class ModelError(Exception):
    """The request is answered with an error object instead of a completion."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that an answer asks for; `arguments` is JSON text, sent exactly as it stands here."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says: text, tool calls or both, after a delay in seconds."""

    text: str | None = None
    calls: tuple[ToolCall, ...] = ()
    delay_s: float = 0.0

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """Take over an assistant message, keeping None and the empty text apart."""
        return cls(
            text=message.get("content"),
            calls=tuple(
                ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in message.get("tool_calls") or ()
            ),
        )

    def delayed(self, seconds: float) -> Self:
        """Return the same answer, given that much later."""
        return replace(self, delay_s=self.delay_s + seconds)

    @property
    def finish_reason(self) -> str:
        """`tool_calls` where the answer asks for tools, else `stop`."""
        return "tool_calls" if self.calls else "stop"

    @property
    def tokens(self) -> int:
        """The length in pretended tokens: characters of text, names and arguments over four."""
        characters = len(self.text or "")
        characters += sum(len(call.name) + len(call.arguments) for call in self.calls)
        return math.ceil(characters / CHARACTERS_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client asked: the model's full name, the messages, and how it wants to be answered."""

    model: str
    messages: tuple[Message, ...] = field(repr=False)
    stream: bool = False
    include_usage: bool = False

    @classmethod
    def from_body(cls, body: object) -> Self:
        """Read a request's JSON body; raises ModelError where it is not a chat request."""
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise ModelError("the body must be an object with a 'model'", code="invalid_request")
        if not isinstance(body.get("messages"), list):
            raise ModelError("'messages' must be a list", code="invalid_request")
        try:
            messages = parse_messages(body["messages"])
        except ValueError as failure:
            raise ModelError(f"'messages': {failure}", code="invalid_request") from failure
        options = body.get("stream_options")
        return cls(
            model=body["model"],
            messages=messages,
            stream=bool(body.get("stream")),
            include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        )

    @property
    def behaviour(self) -> str:
        """The part of the model name before the first colon."""
        return self.model.partition(":")[0]

    @property
    def argument(self) -> str:
        """The part of the model name after the first colon, empty where there is none."""
        return self.model.partition(":")[2]

    def for_model(self, model: str) -> Self:
        """Return the same request, asked of another model."""
        return replace(self, model=model)

    @property
    def last_user_text(self) -> str:
        """The text of the last user message, empty where the request holds none."""
        index = last_user_index(self.messages)
        return "" if index is None else text_of(self.messages[index]) or ""

    @property
    def round_index(self) -> int:
        """How many assistant messages follow the last user message: rounds of the run done."""
        index = last_user_index(self.messages) or 0
        return sum(message["role"] == "assistant" for message in self.messages[index:])

    @property
    def tokens(self) -> int:
        """The prompt's length in pretended tokens: characters over four."""
        characters = sum(len(text) for message in self.messages for text in _texts(message))
        return math.ceil(characters / CHARACTERS_PER_TOKEN)


def parse_messages(values: Sequence[Any]) -> tuple[Message, ...]:
    """Return JSON values as chat messages; raises ValueError, naming the first that is none."""
    for index, value in enumerate(values):
        if (problem := _find_problem(value)) is not None:
            raise ValueError(f"message {index} {problem}")
    return tuple(values)


def last_user_index(messages: Sequence[Message]) -> int | None:
    """Return the place of the last user message, None where there is none."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["role"] == "user":
            return index
    return None


def text_of(message: Message) -> str | None:
    """Return a message's text; a content given in text parts is joined, None stays None."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return None if content is None else str(content)


def canonical_json(text: str) -> str:
    """Return JSON text in one spelling, other text as it is.

    Clients may write the arguments of an earlier call again, with other blanks; Pydantic AI does.
    """
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


def _texts(message: Message) -> Iterator[str]:
    yield text_of(message) or ""
    for call in message.get("tool_calls") or ():
        yield call["function"]["name"]
        yield call["function"]["arguments"]


def _find_problem(message: object) -> str | None:
    if not isinstance(message, dict):
        return "is not an object"
    if message.get("role") not in ROLES:
        return f"has the role {message.get('role')!r}, none of {', '.join(sorted(ROLES))}"
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, list | tuple) or not all(map(_is_call, calls)):
        return "has tool_calls that are not a list of calls with a function's name and arguments"
    return None


def _is_call(call: object) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return isinstance(function, dict) and all(
        isinstance(function.get(key), str) for key in ("name", "arguments")
    )
