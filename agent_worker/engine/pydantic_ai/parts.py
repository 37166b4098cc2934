"""Parts of requests: one of Pydantic AI's as one message, and back. Lossless."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic_ai.messages import (
    ModelRequest,
    ModelRequestPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
    is_multi_modal_content,
)

from agent_worker.engine.pydantic_ai.content import (
    Json,
    difference,
    exact_difference,
    restore_items,
    store_items,
    stored_file,
    stored_item,
    text_of,
    without_data,
)
from agent_worker.engine.pydantic_ai.engine_data import dump, engine_data, with_data
from shared.message import (
    Content,
    ContentPart,
    DataPart,
    Draft,
    MessageKind,
    Role,
    TextPart,
    ToolOutcome,
)

_OUTCOMES: Final = {
    "success": ToolOutcome.SUCCESS,
    "failed": ToolOutcome.FAILED,
    "denied": ToolOutcome.FAILED,
    "retried": ToolOutcome.RETRY,
    "interrupted": ToolOutcome.CANCELLED,
}
_NATIVE_OUTCOMES: Final = {
    None: "success",
    ToolOutcome.SUCCESS: "success",
    ToolOutcome.FAILED: "failed",
    ToolOutcome.RETRY: "retried",
    ToolOutcome.CANCELLED: "interrupted",
}
_SAID_BY_USER: Final = frozenset({"user-prompt", "speech"})
_SAID_BY_SYSTEM: Final = frozenset({"system-prompt", "retry-feedback", "compaction"})


def dump_part(part: ModelRequestPart) -> Json:
    """The JSON form of a request's part."""
    dumped: Json = dump(ModelRequest(parts=[part]))["parts"][0]
    return dumped


def is_said(part: ModelRequestPart) -> bool:
    """Whether a part is something that a person who reads the conversation would miss.

    What is not is Pydantic AI's book-keeping: deltas of tools, settings and instructions.
    """
    kind = part.part_kind
    return kind == "tool-return" or kind in _SAID_BY_USER or kind in _SAID_BY_SYSTEM


def part_draft(part: ModelRequestPart, **noted: Any) -> Draft:
    """A request's part as a message. `noted` is more of what `engine_data` lays out."""
    if isinstance(part, ToolReturnPart):
        return result_draft(part, **noted)
    dumped = dump_part(part)
    if part.part_kind == "user-prompt":
        content, items = _store_prompt(dumped.pop("content"))
        draft = Draft(role=Role.USER, content=content)
        plain = {"part_kind": "user-prompt"}
        return with_data(draft, {"part": difference(dumped, plain), "items": items, **noted})
    role = Role.USER if part.part_kind in _SAID_BY_USER else Role.SYSTEM
    said = dumped.get("content", dumped.get("transcript"))
    draft = Draft(role=role, content=_store_note(said))
    plain = _plain_part(draft, {})
    if part.part_kind == "system-prompt":
        beyond = difference(dumped, plain | {"scope": "conversation"})
    else:
        beyond = exact_difference(dumped, plain)  # some fields may be None and must be there
    return with_data(draft, {"part": beyond, **noted})


def result_draft(
    part: ToolReturnPart,
    *,
    call_id: str | None = None,
    follow_up: str | Sequence[UserContent] | None = None,
    **noted: Any,
) -> Draft:
    """A tool's result as a message.

    `call_id` is the id to store where it is not the part's own. `follow_up` is what the tool wants
    said to the model beside its result (`ToolReturn.content`); it stays with the result, so that
    the two are stored in one step.
    """
    dumped = dump_part(part)
    content, data = _store_result(part.content, dumped.pop("content"))
    data["digests"] = dumped.pop("content_file_digests", None)
    if follow_up:
        content, data["follow_up"] = _append_follow_up(content, follow_up)
    draft = Draft(
        role=Role.TOOL,
        kind=MessageKind.TOOL_RESULT,
        content=content,
        tool_name=part.tool_name,
        tool_call_id=part.tool_call_id if call_id is None else call_id,
        outcome=_OUTCOMES[part.outcome],
    )
    dumped["tool_call_id"] = draft.tool_call_id
    beyond = difference(dumped, _plain_result(draft)) | data.pop("part", {})
    return with_data(draft, {"part": beyond, **data, **noted})


def native_part(draft: Draft) -> Json:
    """The JSON form of the request's part that a message holds, without what follows a result."""
    data = engine_data(draft)
    beyond: Json = data.get("part", {})
    if draft.role is Role.TOOL:
        return _plain_result(draft) | _native_result(draft, data) | beyond
    return _plain_part(draft, data) | beyond


def native_follow_up(draft: Draft) -> str | list[Any] | None:
    """The JSON form of the prompt that follows a tool's result, if there is one."""
    follow_up = engine_data(draft).get("follow_up")
    if follow_up is None or not isinstance(draft.content, tuple):
        return None
    parts = draft.content[follow_up["at"] :]
    return text_of(parts) if follow_up.get("text") else restore_items(parts, follow_up.get("items"))


def _store_prompt(content: Any) -> tuple[Content, list[Json] | None]:
    if isinstance(content, str):
        return content, None
    return store_items(content, [stored_item(item) for item in content])


def _store_note(content: Any) -> Content:
    """What the system says: text, or the details of an error."""
    if content is None or isinstance(content, str):
        return content or ""
    return (DataPart(value=content),)


def _store_result(value: Any, dumped: Any) -> tuple[Content, Json]:
    if isinstance(dumped, str):
        return dumped, {}
    if dumped is None:
        return "", {"part": {"content": None}}
    if is_multi_modal_content(value):
        parts, items = store_items([dumped], [stored_file(dumped)])
        return parts, {"items": items, "single": True}
    if isinstance(value, list) and any(is_multi_modal_content(item) for item in value):
        chosen = [_result_item(*pair) for pair in zip(value, dumped, strict=True)]
        parts, items = store_items(dumped, chosen)
        return parts, {"items": items}
    return (DataPart(value=dumped),), {}


def _result_item(value: Any, dumped: Any) -> ContentPart | None:
    if is_multi_modal_content(value):
        return stored_file(dumped)
    return TextPart(text=dumped) if isinstance(dumped, str) else DataPart(value=dumped)


def _append_follow_up(
    content: Content, follow_up: str | Sequence[UserContent]
) -> tuple[Content, Json]:
    said = dump_part(UserPromptPart(follow_up))["content"]
    prompt, items = _store_prompt(said)
    head = (TextPart(text=content),) if isinstance(content, str) else content
    tail = (TextPart(text=prompt),) if isinstance(prompt, str) else prompt
    layout: Json = {"at": len(head), "text": isinstance(said, str)}
    if items is not None:
        layout["items"] = items
    return head + tail, layout


def _plain_part(draft: Draft, data: Json) -> Json:
    content = draft.content
    if draft.role is Role.USER:
        native: Any = content or ""
        if isinstance(content, tuple):
            items = data.get("items")
            native = restore_items(content if items else without_data(content), items)
        return {"part_kind": "user-prompt", "content": native}
    value = _only_value(content)
    said = text_of(content) if value is None else value.value
    return {"part_kind": "system-prompt", "content": said}


def _only_value(content: Content | None) -> DataPart | None:
    """The data that content consists of, if it consists of one piece of data."""
    if isinstance(content, tuple) and len(content) == 1 and isinstance(content[0], DataPart):
        return content[0]
    return None


def _plain_result(draft: Draft) -> Json:
    return {
        "part_kind": "tool-return",
        "tool_name": draft.tool_name or "",
        "tool_call_id": draft.tool_call_id or "",
        "outcome": _NATIVE_OUTCOMES[draft.outcome],
    }


def _native_result(draft: Draft, data: Json) -> Json:
    content, items = draft.content, data.get("items")
    if isinstance(content, tuple) and "follow_up" in data:
        content = content[: data["follow_up"]["at"]]
    if not isinstance(content, tuple) or (
        items is None and all(isinstance(part, TextPart) for part in content)
    ):
        return {"content": text_of(content)}
    values = restore_items(content, items)
    is_one = data.get("single") or (items is None and _only_value(content) is not None)
    native: Json = {"content": values[0] if is_one else values}
    if data:
        # It says which mappings were files. Without it, whatever looks like a file becomes one.
        native["content_file_digests"] = data.get("digests", [])
    return native
