"""The table of a contract: which store keeps which promise."""

from typing import Final, Literal

Outcome = Literal["passed", "failed", "skipped"]

_SIGNS: Final = {"passed": "✓", "failed": "✗"}
_WORST: Final = ("failed", "skipped", "passed")


class ContractTable:
    """Outcomes by store and case. A case with several parameters is as good as the worst."""

    def __init__(self) -> None:
        self._outcomes: dict[str, dict[str, Outcome]] = {}
        self._stores: dict[str, None] = {}
        self._reasons: dict[str, int] = {}
        self._notes: dict[tuple[str, str], int] = {}

    def add(self, store: str, case: str, outcome: Outcome, *, reason: str = "") -> None:
        """Note the outcome of one phase of one test; a reason says why it was skipped."""
        self._stores.setdefault(store)
        row = self._outcomes.setdefault(case, {})
        before = row.get(store, "passed")
        row[store] = min(before, outcome, key=_WORST.index)
        if outcome == "skipped":
            number = self._reasons.setdefault(
                reason.removeprefix("Skipped: "), len(self._reasons) + 1
            )
            self._notes[case, store] = number

    def markdown(self) -> str:
        """The table, a row for each case, and the reasons of what was skipped below it."""
        stores = list(self._stores)
        lines = [
            f"| | {' | '.join(stores)} |",
            f"|---|{'---|' * len(stores)}",
            *(f"| {_sentence(case)} | {self._row(case)} |" for case in self._outcomes),
            f"| **cases** | {' | '.join(self._sum(store) for store in stores)} |",
        ]
        notes = [f"{number}. {reason}" for reason, number in self._reasons.items()]
        return "\n".join([*lines, *(["", "Skipped:", "", *notes] if notes else [])]) + "\n"

    def _row(self, case: str) -> str:
        return " | ".join(self._cell(case, store) for store in self._stores)

    def _cell(self, case: str, store: str) -> str:
        outcome = self._outcomes[case].get(store)
        if outcome == "skipped":
            return f"- ({self._notes[case, store]})"
        return _SIGNS[outcome] if outcome is not None else ""

    def _sum(self, store: str) -> str:
        outcomes = [row[store] for row in self._outcomes.values() if store in row]
        return f"{outcomes.count('passed')} of {len(outcomes)}"


def _sentence(case: str) -> str:
    words = case.removeprefix("test_").replace("_", " ")
    return words[:1].upper() + words[1:]
