"""What is wrong with a conversation in OpenAI's chat form, in words, and how it is mended.

One reading finds the faults and makes the repairs, so that there is a repair for every fault.
Unlike a stored history, an import is held to call ids that are unique in the whole conversation:
nothing else says which of two results is whose.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared.nesting import MAX_DEPTH, is_too_deep

ROLES: Final = ("system", "developer", "user", "assistant", "tool")

UNCHANGED: Final = "kept as it is"
"""The repair of what is only to be known."""

RawMessage = dict[str, Any]
"""A message as parsed JSON."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault and what mending does about it. `message` is its number, counted from 0."""

    message: int | None
    fault: str
    repair: str

    @property
    def place(self) -> str:
        """Where it is, for the beginning of a sentence."""
        return "" if self.message is None else f"message {self.message}: "


@dataclass(frozen=True, slots=True)
class Mended:
    """A conversation without the faults that were found in it.

    Calls without a result are found but still there: `shared.window.pair_safe` answers them.
    """

    messages: tuple[RawMessage, ...]
    findings: tuple[Finding, ...]


def mend(messages: Sequence[object]) -> Mended:
    """Read a conversation, find all its faults and mend a copy of it."""
    reader = _Reader()
    reader.read(messages)
    return Mended(tuple(reader.mended), tuple(reader.findings))


@dataclass(slots=True)
class _OpenCall:
    """A call that has no result so far; `asked_id` is the id that it came with, if any."""

    call: RawMessage
    asked_id: str

    @property
    def name(self) -> str:
        return str(self.call["function"]["name"])


@dataclass(slots=True)
class _Reader:
    mended: list[RawMessage] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    _index: int = 0
    _caller: int = 0
    _open: list[_OpenCall] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set)

    def read(self, messages: Sequence[object]) -> None:
        for self._index, raw in enumerate(messages):
            message = self._copy(raw)
            if message is None:
                continue
            if message["role"] == "tool":
                self._read_result(message)
            else:
                self._leave_open_calls()
                self._read_speech(message)
        self._leave_open_calls()
        if not messages:
            fault = "empty conversation: there is no message"
            self.findings.append(Finding(None, fault, "left empty"))
        elif self.mended and self.mended[-1]["role"] == "tool":
            self._note(
                "aborted run: the conversation ends with a tool result and without an answer",
                UNCHANGED,
            )

    def _note(self, fault: str, repair: str) -> None:
        self.findings.append(Finding(self._index, fault, repair))

    def _copy(self, raw: object) -> RawMessage | None:
        """A copy that may be changed; None for what cannot be a message."""
        if not isinstance(raw, dict):
            self._note("not an object", "left out")
            return None
        if raw.get("role") not in ROLES:
            role = str(raw.get("role"))[:60]
            self._note(f"wrong role {role!r}, none of {', '.join(ROLES)}", "left out")
            return None
        if is_too_deep(raw):
            self._note(f"nested deeper than {MAX_DEPTH} levels", "left out")
            return None
        try:
            copy: RawMessage = json.loads(json.dumps(raw, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            self._note("holds something that JSON cannot", "left out")
            return None
        return copy

    def _read_speech(self, message: RawMessage) -> None:
        self._mend_content(message)
        calls = message.get("tool_calls")
        if calls is not None and not isinstance(calls, list):
            self._note("tool_calls is not an array", "tool_calls left out")
            del message["tool_calls"]
        elif calls and message["role"] != "assistant":
            self._note(f"tool calls of role {message['role']}", "tool_calls left out")
            del message["tool_calls"]
        elif calls:
            self._caller = self._index
            message["tool_calls"] = [
                call for place, call in enumerate(calls) if self._mend_call(call, place)
            ]
        self.mended.append(message)

    def _mend_call(self, call: object, place: int) -> bool:
        """Mend a call and remember it as open. False for what cannot be a call."""
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            self._note("a tool call names no function", "call left out")
            return False
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str):
            self._note("a tool call names no function", "call left out")
            return False
        if not isinstance(arguments, str):
            self._note(f"the arguments of {name!r} are not a string", "written as JSON")
            function["arguments"] = json.dumps({} if arguments is None else arguments)
        self._open.append(_OpenCall(call, self._mend_id(call, name, place)))
        return True

    def _mend_id(self, call: RawMessage, name: str, place: int) -> str:
        """Give the call an id of its own; return the one that it came with."""
        asked = call.get("id")
        if not asked or not isinstance(asked, str):
            asked = ""
            call["id"] = self._new_id(f"call-{self._index}-{place}")
            self._note(f"call without id, of {name!r}", f"given the id {call['id']!r}")
        elif asked in self._ids:
            call["id"] = self._new_id(asked)
            self._note(
                f"call id reused: {asked!r}, now of {name!r}", f"given the id {call['id']!r}"
            )
        self._ids.add(call["id"])
        return asked

    def _new_id(self, wish: str) -> str:
        number = 1
        new = wish
        while new in self._ids:
            number += 1
            new = f"{wish}-{number}"
        return new

    def _read_result(self, message: RawMessage) -> None:
        self._mend_content(message)
        call_id, name = message.get("tool_call_id"), message.get("name")
        if call_id and isinstance(call_id, str):
            answered = self._find_open(lambda one: one.asked_id == call_id)
            if answered is None:
                fault = f"orphan tool result: no open call before it has the id {call_id!r}"
                self._note(fault, "left out")
        else:
            answered = self._find_open(lambda one: not one.asked_id and one.name == name)
            answered = answered or self._find_open(lambda one: not one.asked_id or one.name == name)
            repair = f"given the id {answered.call['id']!r}" if answered else "left out"
            self._note("tool message without id", repair)
        if answered is not None:
            self._open.remove(answered)
            self.mended.append(message | {"tool_call_id": answered.call["id"]})

    def _leave_open_calls(self) -> None:
        for one in self._open:
            fault = f"unanswered call {one.call['id']!r} of {one.name!r}"
            self.findings.append(Finding(self._caller, fault, "given a result that says so"))
        self._open.clear()

    def _find_open(self, fits: Callable[[_OpenCall], bool]) -> _OpenCall | None:
        return next(filter(fits, self._open), None)

    def _mend_content(self, message: RawMessage) -> None:
        content = message.get("content")
        if isinstance(content, list):
            if not all(isinstance(part, dict) for part in content):
                self._note("a content part is not an object", "written as text")
                message["content"] = [
                    part if isinstance(part, dict) else {"type": "text", "text": _as_text(part)}
                    for part in content
                ]
        elif content is None and message["role"] != "assistant":
            self._note(f"no content, in role {message['role']}", "given an empty content")
            message["content"] = ""
        elif content is not None and not isinstance(content, str):
            self._note("content is neither text nor a list of parts", "written as text")
            message["content"] = _as_text(content)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
