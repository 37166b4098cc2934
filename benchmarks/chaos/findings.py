"""Findings: violations, and what was counted on the way."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: which one, for which run, and how."""

    check: str
    about: str
    """The run's id, with its conversation or its spec."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.check}: {self.about}: expected {self.expected}; found {self.found}"


@dataclass
class Findings:
    """What the checks have come to."""

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def report(self, check: str, about: str, *, expected: str, found: str) -> None:
        """Note a violation."""
        self.violations.append(Violation(check, about, expected, found))
