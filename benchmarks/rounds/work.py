"""The work: so many runs at once, each of so many rounds, and every word that is said in them.

In each round the model is called. All rounds but the last ask for a tool, which answers at once;
the last one gives the answer. With its input a run has two messages for each round.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from pydantic import JsonValue

TOOL: Final = "look_up"
QUESTION: Final = (
    "Which of the teas in the shop is the right one for a rainy afternoon in the city?"
)
ANSWER: Final = ("A smoky black one" + ", with milk if you like" * 4)[:100]


def look_up(shelf: int) -> str:
    """What the tool says: 100 characters."""
    return (f"Shelf {shelf}:" + " green, black and white tea;" * 4)[:100]


@dataclass(frozen=True)
class Work:
    """What is done."""

    runs: int
    rounds: int
    latency_s: float
    """One model call."""

    def __str__(self) -> str:
        return f"{self.runs} runs of {self.rounds} rounds at {self.latency_s:g} s"

    @property
    def all_rounds(self) -> int:
        """Of all runs together."""
        return self.runs * self.rounds

    @property
    def messages(self) -> int:
        """Of one run."""
        return 2 * self.rounds

    @property
    def ideal_s(self) -> float:
        """Wall time, were there nothing but the model: all runs wait for it at the same time."""
        return self.rounds * self.latency_s

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """The work of which a run is a part, by what it was told."""
        return cls(**metadata)

    def as_metadata(self) -> dict[str, JsonValue]:
        """What a run is told."""
        return asdict(self)

    def as_arguments(self) -> list[str]:
        """What a program is told on its command line."""
        values = (("--runs", self.runs), ("--rounds", self.rounds), ("--latency-s", self.latency_s))
        return [word for name, value in values for word in (name, str(value))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command line take `Work.as_arguments`."""
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--latency-s", type=float, required=True, help="of one model call")


def work_of(options: argparse.Namespace) -> Work:
    """The work on a command line."""
    return Work(options.runs, options.rounds, options.latency_s)
