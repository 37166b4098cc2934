"""What a scripted run plays: rounds of slow model calls and slow tools, written in its own input.

Texts name the attempt (the lease) that made them, so a history tells which worker wrote what.
"""

import json
import re
from collections.abc import Sequence
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

_ATTEMPT: Final = re.compile(r" \(attempt (\d+)\)$")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Call(_Value):
    """One tool call: `work` is an async tool, `grind` a sync one that keeps a thread busy."""

    tool: Literal["work", "grind"]
    name: str
    seconds: float

    @property
    def arguments(self) -> str:
        """The arguments as the model writes them."""
        return json.dumps({"name": self.name, "seconds": self.seconds})


class Round(_Value):
    """One model call and the tools that it asks for."""

    think_s: float
    calls: tuple[Call, ...]


class Script(_Value):
    """All rounds of a run; behind them the model answers after `think_s`."""

    id: str
    rounds: tuple[Round, ...]
    think_s: float = 0.0

    def said(self, index: int) -> str:
        """What the assistant says in a round; behind the last one, its answer."""
        return f"{self.id} round {index}" if index < len(self.rounds) else f"{self.id} done"


def result_of(name: str) -> str:
    """What a tool answers."""
    return f"{name} done"


def call_id(round_index: int, index: int) -> str:
    """The id of a call. The same in every run, as careless providers do it."""
    return f"call-{round_index}-{index}"


def mark_attempt(text: str, attempt: int) -> str:
    """The text with the attempt that made it."""
    return f"{text} (attempt {attempt})"


def split_attempt(text: str) -> tuple[str, int | None]:
    """The text without its mark, and the attempt that made it, if it is marked."""
    found = _ATTEMPT.search(text)
    return (text[: found.start()], int(found[1])) if found else (text, None)


def find_script(texts: Sequence[str]) -> Script:
    """The script in the last of a conversation's user messages."""
    return Script.model_validate_json(texts[-1])
