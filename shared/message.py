"""Messages: what a conversation is made of, readable without any LLM library.

The stored form is JSON with full field names, a discriminator on every part and a version (see
`shared.version`). Stored names are compatibility data: they may be added to, never renamed.
"""

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.money import Usd
from shared.version import FORMAT_VERSION, MESSAGE_VERSION, SUMMARY_VERSION


def is_empty(value: object) -> bool:
    """Whether an optional field holds nothing, so that the stored form leaves it out."""
    return not value


def is_none(value: object) -> bool:
    """Whether an optional field is unset, so that the stored form leaves it out."""
    return value is None


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class MessageKind(StrEnum):
    """What an entry is, for filters and live views."""

    MESSAGE = "message"
    TOOL_CALL = "tool_call"
    """An assistant's message that asks for tools (it may hold text as well)."""
    TOOL_RESULT = "tool_result"
    ERROR = "error"
    """A note about a run that failed or was cancelled. People see it, models never do."""
    SUMMARY = "summary"
    """What a run wrote in the place of older messages, which stay. People see both; models see it
    where a window puts it in front, and nowhere else."""

    @property
    def is_note(self) -> bool:
        """Whether it stands beside the conversation: no model is shown it where it is stored."""
        return self in {MessageKind.ERROR, MessageKind.SUMMARY}


class ToolOutcome(StrEnum):
    """How a tool call ended."""

    SUCCESS = "success"
    FAILED = "failed"
    """The tool raised or ran out of time; the content says so to the model."""
    RETRY = "retry"
    """The call was refused (bad arguments, unknown tool) and the model is asked to correct it."""
    CANCELLED = "cancelled"
    """The run was stopped before the tool ended; written so that the call has a result."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TextPart(_Value):
    """Plain text."""

    type: Literal["text"] = "text"
    text: str


class ThinkingPart(_Value):
    """A model's reasoning, where the provider shows it."""

    type: Literal["thinking"] = "thinking"
    text: str


class MediaPart(_Value):
    """An image, audio, video or document: by `url`, or inline as base64 `data`."""

    type: Literal["media"] = "media"
    media_type: str
    """A MIME type, such as ``image/png``."""
    url: str | None = Field(default=None, exclude_if=is_none)
    data: str | None = Field(default=None, exclude_if=is_none)
    """Base64, standard alphabet."""
    name: str | None = Field(default=None, exclude_if=is_none)


class DataPart(_Value):
    """A structured value: any JSON."""

    type: Literal["data"] = "data"
    value: JsonValue


ContentPart = Annotated[TextPart | ThinkingPart | MediaPart | DataPart, Field(discriminator="type")]
Content = str | tuple[ContentPart, ...]


class ToolCall(_Value):
    """A tool that an assistant asked for.

    Ids come from the provider and are not unique, not even within one conversation: a call is known
    by its message and its index therein.
    """

    id: str
    name: str
    arguments: str
    """JSON as the model wrote it, unchecked."""


class Usage(_Value):
    """Tokens, requests and tool calls that something took."""

    input_tokens: int = Field(default=0, exclude_if=is_empty)
    output_tokens: int = Field(default=0, exclude_if=is_empty)
    cache_read_tokens: int = Field(default=0, exclude_if=is_empty)
    cache_write_tokens: int = Field(default=0, exclude_if=is_empty)
    requests: int = Field(default=0, exclude_if=is_empty)
    tool_calls: int = Field(default=0, exclude_if=is_empty)

    def __add__(self, other: "Usage") -> "Usage":
        # Not over `model_dump`, which leaves out what is zero.
        names = Usage.model_fields
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


class Price(_Value):
    """What a message cost: the model call that made it, or what agents within a tool took."""

    provider: str | None = Field(default=None, exclude_if=is_none)
    model: str | None = Field(default=None, exclude_if=is_none)
    """As the provider answered. None where several took part, or nobody says which."""
    known_cost: Usd = Decimal(0)
    """US dollars. All of the cost, unless `unpriced` says why not."""
    unpriced: str | None = Field(default=None, exclude_if=is_none)
    """Why not all of the cost is known: ``unknown_model`` (there is no price for it), ``no_usage``
    (its provider did not say what it took), ``nested`` (agents within a tool, of which not all
    prices are known), or another word of an engine."""

    @property
    def cost(self) -> Decimal | None:
        """The cost, where all of it is known."""
        return self.known_cost if self.unpriced is None else None


class EngineData(_Value):
    """What an engine needs to restore its own message exactly; nobody else looks inside."""

    name: str
    """Which engine wrote it, such as ``pydantic-ai``."""
    version: int
    data: JsonValue


class Covered(_Value):
    """Which messages a summary stands for: a stretch of the conversation, both ends included.

    Ids and no cursors, since cursors change when a conversation is moved to another store.
    """

    first: str
    """The id of the oldest one."""
    last: str
    """The id of the newest one. Whatever is stored behind it is not in the summary."""
    count: int = Field(ge=1)
    """How many there were. Those that an older summary stood for are counted, too."""


class Draft(_Value):
    """A message before it has a place: what an engine yields and `submit` takes."""

    role: Role
    kind: MessageKind = MessageKind.MESSAGE
    content: Content | None = Field(default=None, exclude_if=is_none)
    """None only where an assistant says nothing and calls tools."""
    tool_calls: tuple[ToolCall, ...] = Field(default=(), exclude_if=is_empty)
    tool_name: str | None = Field(default=None, exclude_if=is_none)
    tool_call_id: str | None = Field(default=None, exclude_if=is_none)
    outcome: ToolOutcome | None = Field(default=None, exclude_if=is_none)
    """Of a tool result; None elsewhere."""
    usage: Usage | None = Field(default=None, exclude_if=is_none)
    """Of the model call that made an assistant's message, or a summary."""
    price: Price | None = Field(default=None, exclude_if=is_none)
    """Of the same, in money."""
    waited_ms: int | None = Field(default=None, ge=0, exclude_if=is_none)
    """How long its run waited for it: for the model, or for the (rest of the) tool."""
    covers: Covered | None = Field(default=None, exclude_if=is_none)
    """Of a summary; None elsewhere."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict, exclude_if=is_empty)
    engine: EngineData | None = Field(default=None, exclude_if=is_none)

    @property
    def text(self) -> str:
        """All text of the content, without thinking, media and data."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Sealed(_Value):
    """What of a message only those may see who can undo `layers`: compressed, encrypted, or both.

    It replaces all fields but id, run id, position, role, kind, time and version.
    """

    layers: tuple[str, ...]
    """What was done, in this order: ``zstd``, ``aes-256-gcm``."""
    key_id: str | None = Field(default=None, exclude_if=is_none)
    """Which of the keys encrypted it."""
    data: str
    """Base64, standard alphabet."""


class Message(Draft):
    """One entry of a conversation.

    `id` is ``<run id>.<position>`` for a message that a run wrote, so that two writes of one
    message have one id.
    """

    version: int = Field(default=MESSAGE_VERSION, ge=1, le=FORMAT_VERSION, strict=True)
    id: str
    run_id: str | None = Field(default=None, exclude_if=is_none)
    position: int = Field(default=0, ge=0)
    """The place among the messages of its run, from 0, without gaps."""
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    sealed: Sealed | None = Field(default=None, exclude_if=is_none)
    """Everything else about the message, as it is stored where conversations are sealed."""
    cursor: str | None = Field(default=None, exclude=True)
    """Where the store keeps it; set when read, never part of the stored form."""

    @classmethod
    def from_draft(cls, draft: Draft, *, run_id: str, position: int) -> "Message":
        """Give a draft its place in a run; the time is now (UTC)."""
        fields: dict[str, Any] = {name: getattr(draft, name) for name in Draft.model_fields}
        return Message.model_construct(
            **fields,
            version=_version_of(draft),
            id=f"{run_id}.{position}",
            run_id=run_id,
            position=position,
            created_at=datetime.now(UTC),
            sealed=None,
            cursor=None,
        )

    def at(self, cursor: str) -> Self:
        """The same message with the cursor under which a store keeps it."""
        return self.model_copy(update={"cursor": cursor})


def _version_of(draft: Draft) -> int:
    return SUMMARY_VERSION if draft.kind is MessageKind.SUMMARY else MESSAGE_VERSION


def user_draft(content: Content) -> Draft:
    """What a run's input becomes as its first message."""
    return Draft(role=Role.USER, content=content)


def summary_draft(text: str, covers: Covered, *, usage: Usage | None = None) -> Draft:
    """What a run writes in the place of older messages. `usage` is what that took."""
    return Draft(
        role=Role.SYSTEM, kind=MessageKind.SUMMARY, content=text, covers=covers, usage=usage
    )


def tool_result_draft(
    call: ToolCall, content: Content, *, outcome: ToolOutcome = ToolOutcome.SUCCESS
) -> Draft:
    """The result of `call`."""
    return Draft(
        role=Role.TOOL,
        kind=MessageKind.TOOL_RESULT,
        content=content,
        tool_name=call.name,
        tool_call_id=call.id,
        outcome=outcome,
    )
