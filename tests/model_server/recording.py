"""Recorded agent conversations: reading them from JSON lines, checking that they can be replayed.

The recordings are not part of the project. Tests and benchmarks read them from the folder that
AGENTS_RECORDINGS names, and go without where there is none.

A run is one user message and all that follows it up to the next user message. Two user messages in
a row therefore make a run without an answer, which `validate` names; they are not joined, since
nothing in a recording says that they were meant as one input.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Self

from tests.model_server.chat import Message, parse_messages, text_of
from tests.model_server.pairing import find_faults

FOLDER_VARIABLE = "AGENTS_RECORDINGS"
DEFAULT_FOLDER = Path(__file__).parents[3] / "shared" / "data" / "recordings"

_REQUIRED = {"id": str, "source": str, "model": str, "messages": list, "meta": dict}


class RecordingError(ValueError):
    """A recording cannot be read or replayed; the message says where and why."""


@dataclass(frozen=True, slots=True)
class RecordedRound:
    """One assistant message and the results of the tools that it asked for, in recorded order."""

    assistant: Message
    results: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One user input and the messages that must follow it.

    `first_message` is the place of the user message among the recording's messages.
    """

    index: int
    first_message: int
    user_text: str
    expected: tuple[Message, ...] = field(repr=False)

    @property
    def rounds(self) -> tuple[RecordedRound, ...]:
        """The expected messages by round: each assistant message with its results."""
        return tuple(
            RecordedRound(self.expected[start], self.expected[start + 1 : end])
            for start, end in _spans(self.expected, "assistant")
        )


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded conversation; `messages[:replay_len]` ends with its last complete run."""

    id: str
    source: str
    model: str
    messages: tuple[Message, ...] = field(repr=False)
    replay_len: int
    tools: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """OpenAI's `tools` array: `{"type": "function", "function": {name, parameters, …}}`."""
    anomalies: Mapping[str, int] = field(default_factory=dict)
    """Which pairing rules it is known to break, and how often."""

    @property
    def replayable(self) -> tuple[Message, ...]:
        """The messages up to the end of the last complete run, the system prompt among them."""
        return self.messages[: self.replay_len]

    @property
    def system_prompt(self) -> str | None:
        """The text of the leading system message, None where there is none."""
        if self.messages and self.messages[0]["role"] == "system":
            return text_of(self.messages[0])
        return None

    def runs(self) -> list[RecordedRun]:
        """Return the complete runs, first to last; empty where none was completed."""
        messages = self.replayable
        return [
            RecordedRun(index, start, text_of(messages[start]) or "", messages[start + 1 : end])
            for index, (start, end) in enumerate(_spans(messages, "user"))
        ]

    @classmethod
    def from_row(cls, row: object, folder: Path) -> Self:
        """Build a recording from one parsed line; its tool specs may stand in `folder`/tools.

        Raises ValueError, mostly RecordingError, where a field is missing or has another shape.
        """
        if not isinstance(row, dict):
            raise RecordingError("the line is not a JSON object")
        for name, kind in _REQUIRED.items():
            if not isinstance(row.get(name), kind):
                raise RecordingError(f"field {name!r} is missing or not a {kind.__name__}")
        replay_len = row["meta"].get("replay_len")
        if not isinstance(replay_len, int) or not 0 <= replay_len <= len(row["messages"]):
            raise RecordingError("field 'meta.replay_len' is missing or not a count of messages")
        return cls(
            id=row["id"],
            source=row["source"],
            model=row["model"],
            messages=parse_messages(row["messages"]),
            replay_len=replay_len,
            tools=_resolve_tools(row, folder),
            anomalies=row.get("anomalies") or {},
        )


def load_recordings(path: Path, limit: int | None = None) -> Iterator[Recording]:
    """Yield the recordings of a JSON-lines file, in file order, at most `limit` of them.

    Lines end with a line feed only: a text may hold any other separator. Raises RecordingError,
    naming file and line, at the first line that is not a recording.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(islice(lines, limit), start=1):
            try:
                yield Recording.from_row(json.loads(line), path.parent)
            except ValueError as failure:  # RecordingError, bad JSON and bad UTF-8 are all of them
                raise RecordingError(f"{path.name}, line {number}: {failure}") from failure


def validate(recording: Recording) -> list[str]:
    """Return what keeps a recording from being replayed exactly, in words; empty if nothing does.

    Pairing is checked in all messages. What follows the last complete run need not be complete.
    """
    if not recording.messages:
        return ["empty conversation: there is no message"]
    faults = [str(fault) for fault in find_faults(recording.messages)]
    runs = recording.runs()
    if not runs:
        faults.append("no complete run: the recording was aborted before the first final answer")
    for run in runs:
        last = run.expected[-1] if run.expected else None
        if last is None or last["role"] != "assistant" or last.get("tool_calls"):
            faults.append(
                f"run without answer: the run of message {run.first_message} does not end with"
                " a plain assistant message"
            )
    return faults


def find_folder() -> Path | None:
    """Return the folder with the recordings, None where this machine has none."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)
    return folder if folder.is_dir() else None


def _spans(messages: Sequence[Message], role: str) -> Iterator[tuple[int, int]]:
    """Yield where each stretch that a message of this role opens begins and ends."""
    starts = [index for index, message in enumerate(messages) if message["role"] == role]
    return pairwise([*starts, len(messages)])


def _resolve_tools(row: Mapping[str, Any], folder: Path) -> tuple[Mapping[str, Any], ...]:
    if row.get("tools") is not None:
        return tuple(row["tools"])
    if row.get("tools_ref") is None:
        return ()
    return _read_tools(folder / "tools" / f"{row['tools_ref']}.json")


@cache
def _read_tools(path: Path) -> tuple[Mapping[str, Any], ...]:
    try:
        return tuple(json.loads(path.read_bytes()))
    except (OSError, ValueError) as failure:
        raise RecordingError(f"the tool specs {path.name} cannot be read: {failure}") from failure
