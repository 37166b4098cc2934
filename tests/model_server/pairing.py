"""The rules that pair tool calls with their results, and what breaks them, in words.

A recording is checked with all of them before it is replayed, a request before it is answered, as a
provider does. Ids repeat across rounds in real traffic, so a provider does not mind a reused one,
but nothing can tell its two results apart: only recordings are held to that rule.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.model_server.chat import Message


class FaultKind(StrEnum):
    """Which rule is broken."""

    CALL_WITHOUT_ID = "call without id"
    CALL_ID_REUSED = "call id reused in the conversation"
    RESULT_WITHOUT_ID = "tool message without id"
    ORPHAN_RESULT = "tool result without a call"
    UNANSWERED_CALL = "unanswered call"


@dataclass(frozen=True, slots=True)
class Fault:
    """A broken rule at the message with that index, counted from 0."""

    kind: FaultKind
    message_index: int
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: message {self.message_index}: {self.detail}"


def find_faults(messages: Sequence[Message]) -> list[Fault]:
    """Return every broken rule, in the order in which a reader meets them."""
    return list(_Reader().read(messages))


def find_refusals(messages: Sequence[Message]) -> list[Fault]:
    """Return the broken rules for which providers refuse a request: all but reused call ids."""
    return [each for each in find_faults(messages) if each.kind is not FaultKind.CALL_ID_REUSED]


@dataclass
class _Reader:
    """Reads a conversation once and remembers which calls are open."""

    open: list[str] = field(default_factory=list)
    """Ids of the latest assistant message that have no result yet; empty for a call without id."""
    opened_at: int = 0
    seen: set[str] = field(default_factory=set)

    def read(self, messages: Sequence[Message]) -> Iterator[Fault]:
        for index, message in enumerate(messages):
            if message["role"] == "tool":
                yield from self._close(index, message)
            else:
                yield from self._leave_open()
                yield from self._open(index, message)
        yield from self._leave_open()

    def _open(self, index: int, message: Message) -> Iterator[Fault]:
        self.opened_at = index
        for call in message.get("tool_calls") or ():
            call_id, name = call.get("id") or "", call["function"]["name"]
            if not call_id:
                yield Fault(FaultKind.CALL_WITHOUT_ID, index, f"a call of {name!r} has no id")
            elif call_id in self.seen:
                detail = f"{call_id!r}, now for {name!r}, was the id of an earlier call"
                yield Fault(FaultKind.CALL_ID_REUSED, index, detail)
            self.seen.add(call_id)
            self.open.append(call_id)

    def _close(self, index: int, message: Message) -> Iterator[Fault]:
        call_id = message.get("tool_call_id") or ""
        if not call_id:
            yield Fault(FaultKind.RESULT_WITHOUT_ID, index, "the result names no call")
        if call_id in self.open:
            self.open.remove(call_id)
        elif call_id:
            detail = f"no open call of the assistant message before it has the id {call_id!r}"
            yield Fault(FaultKind.ORPHAN_RESULT, index, detail)

    def _leave_open(self) -> Iterator[Fault]:
        for call_id in self.open:
            detail = f"the call {call_id or 'without id'!r} has no result"
            yield Fault(FaultKind.UNANSWERED_CALL, self.opened_at, detail)
        self.open.clear()
