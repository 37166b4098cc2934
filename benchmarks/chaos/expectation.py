"""What a run's history has to hold, and how what it does hold differs from that."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.chaos.script import Script, call_id, result_of, split_attempt
from shared.message import Message, MessageKind, Role, ToolOutcome
from shared.run import RunStatus
from tests.model_server import RecordedRun
from tests.model_server.chat import canonical_json, text_of

Key = tuple[Any, ...]
"""What makes a message the one that was expected: role, text, calls, which call it answers."""


@dataclass(frozen=True)
class Expected:
    """A run's messages, in groups: within one, those of parallel results, any order is right."""

    groups: tuple[tuple[Key, ...], ...]
    status: RunStatus = RunStatus.COMPLETED
    """How it ends if nobody stops it."""
    error_code: str | None = None

    @property
    def messages(self) -> int:
        """How many messages that are."""
        return sum(len(group) for group in self.groups)


@dataclass
class Difference:
    """What is wrong with a run's history."""

    missing: list[Key] = field(default_factory=list)
    duplicated: list[Message] = field(default_factory=list)
    unexpected: list[Message] = field(default_factory=list)
    closings: int = 0
    """Results and notes that say how the run was stopped; right, but not in the script."""


def expect_script(script: Script, *, max_rounds: int | None = None) -> Expected:
    """The messages of a scripted run. With `max_rounds` too small for it, it fails there."""
    is_cut = max_rounds is not None and max_rounds <= len(script.rounds)
    rounds = script.rounds[:max_rounds] if is_cut else script.rounds
    groups: list[tuple[Key, ...]] = [(_user(script.model_dump_json()),)]
    for index, played in enumerate(rounds):
        ids = [call_id(index, position) for position in range(len(played.calls))]
        calls = tuple(
            (each, call.tool, canonical_json(call.arguments))
            for each, call in zip(ids, played.calls, strict=True)
        )
        groups.append((("assistant", script.said(index), calls),))
        groups.append(
            tuple(
                ("tool", result_of(call.name), each)
                for each, call in zip(ids, played.calls, strict=True)
            )
        )
    if is_cut:
        return Expected(tuple(groups), RunStatus.FAILED, "max_rounds")
    groups.append((("assistant", script.said(len(script.rounds)), ()),))
    return Expected(tuple(groups))


def expect_recorded(run: RecordedRun) -> Expected:
    """The messages of a recorded run."""
    groups: list[tuple[Key, ...]] = [(_user(run.user_text),)]
    for played in run.rounds:
        calls = tuple(
            (call["id"], call["function"]["name"], canonical_json(call["function"]["arguments"]))
            for call in played.assistant.get("tool_calls") or ()
        )
        groups.append((("assistant", text_of(played.assistant) or "", calls),))
        if played.results:
            groups.append(
                tuple(
                    ("tool", text_of(result) or "", result["tool_call_id"])
                    for result in played.results
                )
            )
    return Expected(tuple(groups))


def compare(expected: Expected, messages: Sequence[Message], status: RunStatus) -> Difference:
    """Hold a run's messages against what was expected of it.

    A run that was cancelled holds a beginning of it, in which each call has a result.
    """
    walk = _Walk(expected.groups)
    for message in messages:
        walk.take(message, status)
    walk.end(is_whole=status is expected.status)
    return walk.difference


class _Walk:
    """Goes along the groups with the messages."""

    def __init__(self, groups: Sequence[Sequence[Key]]) -> None:
        self.difference = Difference()
        self._groups = [Counter(group) for group in groups]
        self._at = 0
        self._seen: Counter[Key] = Counter()

    def take(self, message: Message, status: RunStatus) -> None:
        """The next message."""
        if message.kind is MessageKind.SUMMARY:
            return  # in no script; which messages it stands for is not this walk's to judge
        if message.kind is MessageKind.ERROR:
            if status is not RunStatus.FAILED:
                self.difference.unexpected.append(message)
            self.difference.closings += 1
            return
        key = self._cancelled_call(message, status) or key_of(message)
        place = self._find(key)
        if place is None:
            fault = self.difference.duplicated if self._seen[key] else self.difference.unexpected
            fault.append(message)
            return
        for group in self._groups[self._at : place]:
            self.difference.missing += group.elements()
            group.clear()
        self._at = place
        self._groups[place][key] -= 1
        self._seen[key] += 1

    def end(self, *, is_whole: bool) -> None:
        """No message follows. A run that was stopped has to have answered the calls it made."""
        if is_whole:
            due = len(self._groups)
        elif not self._seen:
            due = self._at
        else:
            following = self._groups[self._at + 1 : self._at + 2]
            due = self._at + 1 + sum(_holds_results(group) for group in following)
        for group in self._groups[self._at : due]:
            self.difference.missing += (+group).elements()

    def _find(self, key: Key) -> int | None:
        for place in range(self._at, len(self._groups)):
            if self._groups[place][key] > 0:
                return place
        return None

    def _cancelled_call(self, message: Message, status: RunStatus) -> Key | None:
        """The result in whose place a note stands that the call was cancelled."""
        if message.outcome is not ToolOutcome.CANCELLED or status is RunStatus.COMPLETED:
            return None
        self.difference.closings += 1
        for group in self._groups[self._at :]:
            for key in +group:
                if key[0] == "tool" and key[2] == message.tool_call_id:
                    return key
        return None


def _holds_results(group: Counter[Key]) -> bool:
    return any(key[0] == "tool" for key in group)


def key_of(message: Message) -> Key:
    """What makes a stored message comparable."""
    text, _ = split_attempt(message.text)
    if message.role is Role.USER:
        return _user(message.text)
    if message.role is Role.TOOL:
        return ("tool", text, message.tool_call_id)
    calls = tuple(
        (call.id, call.name, canonical_json(call.arguments)) for call in message.tool_calls
    )
    return (message.role.value, text, calls)


def _user(text: str) -> Key:
    return ("user", text)
