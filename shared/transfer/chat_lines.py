"""Conversations as JSON lines in the form of OpenAI's chat completions: one conversation a line.

A line is ``{"conversation_id": ..., "messages": [...]}``. Without the id, it is what files for
fine-tuning hold; other fields of a line, such as ``tools``, are passed over when it is read. A line
ends with a line feed and is ASCII, whatever its texts hold.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import InvalidIdError, MalformedConversationError
from shared.identifier import check_id
from shared.message import DataPart, Draft, Message, MessageKind, Role, ThinkingPart, ToolOutcome
from shared.openai_chat import KEPT, repair_openai, to_openai
from shared.openai_fault import UNCHANGED, mend
from shared.window import pair_safe

_NO_JSON: Final = "not JSON that can be read"


@dataclass(frozen=True, slots=True)
class ChatLine:
    """A conversation as a line.

    Attributes:
        text: The line, without its end.
        messages: How many messages it holds.
        lost: What the form has no place for, and how many messages had it: ``engine``, ``errors``,
            ``kinds``, ``metadata``, ``outcomes``, ``structure``, ``summaries``, ``thinking``,
            ``usage``. Ids, runs and times have no place in it either, of any message.
        repaired: Messages that were left out or put in, so that each call has its result.
    """

    text: str
    messages: int
    lost: Counter[str]
    repaired: int


@dataclass(frozen=True, slots=True)
class ChatConversation:
    """A conversation that was read from a line.

    Attributes:
        number: Of its line, counted from 1.
        conversation_id: As the line says, or ``import:`` and a digest of its messages.
        messages: Its messages. The same line gives the same ids: importing it again is noticed.
        repairs: Each fault that was mended, in words, and what is to be known without being one:
            that it ends with a tool's result.
    """

    number: int
    conversation_id: str
    messages: tuple[Message, ...]
    repairs: tuple[str, ...] = ()


def write_line(conversation_id: str | None, messages: Sequence[Message]) -> ChatLine:
    """A conversation as a line; None leaves its id out.

    Notes are left out: errors, and summaries, since what they stand for is there. Calls without a
    result get one that says so, and results without their call are left out, as models are shown
    it.
    """
    shown = [message for message in messages if not message.kind.is_note]
    safe = pair_safe(shown)
    body: dict[str, Any] = {} if conversation_id is None else {"conversation_id": conversation_id}
    body["messages"] = to_openai(safe)
    kept = {id(message) for message in safe}
    before = {id(message) for message in shown}
    lost = Counter(what for message in messages for what in _lost(message))
    return ChatLine(json.dumps(body), len(safe), lost, repaired=len(kept ^ before))


def _lost(message: Message) -> Iterator[str]:
    """What of a message has no place in the form."""
    parts = message.content if isinstance(message.content, tuple) else ()
    kept = message.metadata.get(KEPT)
    if message.kind is MessageKind.ERROR:
        yield "errors"
        return
    if message.kind is MessageKind.SUMMARY:
        yield "summaries"
        return
    if message.kind is not _usual_kind(message):
        yield "kinds"
    if message.engine is not None:
        yield "engine"
    if set(message.metadata) - {KEPT}:
        yield "metadata"
    if message.outcome not in (None, ToolOutcome.SUCCESS):
        yield "outcomes"
    if kept is None and any(isinstance(part, DataPart) for part in parts):
        yield "structure"
    if any(isinstance(part, ThinkingPart) for part in parts):
        yield "thinking"
    if message.usage is not None:
        yield "usage"


def _usual_kind(message: Draft) -> MessageKind:
    if message.role is Role.TOOL:
        return MessageKind.TOOL_RESULT
    return MessageKind.TOOL_CALL if message.tool_calls else MessageKind.MESSAGE


def read_line(number: int, line: bytes, *, repair: bool = False) -> ChatConversation:
    """A conversation from a line; with `repair`, faults are mended and named.

    Raises:
        MalformedConversationError: What is wrong with it; each fault names the line.
    """
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _malformed(number, [_NO_JSON]) from error
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list):
        raise _malformed(number, ['no object with an array "messages"'])
    if not repair:
        _check_faults(number, messages)
    mended = repair_openai(messages)
    if not mended.drafts:
        raise _malformed(number, ["nothing of it can be kept", *mended.repairs])
    digest = hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).hexdigest()[:32]
    return ChatConversation(
        number=number,
        conversation_id=_conversation_id(number, body.get("conversation_id"), digest),
        messages=tuple(_messages(mended.drafts, digest)),
        repairs=mended.repairs,
    )


def _check_faults(number: int, messages: list[object]) -> None:
    """Refuse what a repair would change. That a run was aborted makes no history unusable."""
    findings = mend(messages).findings
    faults = [found.place + found.fault for found in findings if found.repair != UNCHANGED]
    if faults:
        raise _malformed(number, faults)


def _conversation_id(number: int, given: object, digest: str) -> str:
    if given is None:
        return f"import:{digest}"
    try:
        return check_id(given, "conversation id")
    except InvalidIdError as error:
        raise _malformed(number, [str(error)]) from error


def _messages(drafts: Iterable[Draft], digest: str) -> Iterator[Message]:
    for place, draft in enumerate(drafts):
        yield Message(**dict(draft), id=f"import-{digest}.{place}")


def _malformed(number: int, faults: Iterable[str]) -> MalformedConversationError:
    named = tuple(f"line {number}: {fault}" for fault in faults)
    return MalformedConversationError("; ".join(named), named)
