"""Wishes: what somebody wants of a trip, read from their own words."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from examples.travel.tools import CITIES, EUR_RATES

_NUMBERS: Final = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_CURRENCIES: Final = {code.lower(): code for code in EUR_RATES} | {
    "$": "USD",
    "dollars": "USD",
    "€": "EUR",
    "euros": "EUR",
    "£": "GBP",
    "pounds": "GBP",
}
_CURRENCY: Final = "|".join(map(re.escape, _CURRENCIES))
_AMOUNT: Final = r"\d+(?:[,.]\d+)*"
_BUDGET: Final = re.compile(
    rf"({_CURRENCY})\s?({_AMOUNT})|({_AMOUNT})\s?({_CURRENCY})", re.IGNORECASE
)
_NUMBER: Final = rf"\d|{'|'.join(_NUMBERS)}"
_TRAVELLERS: Final = re.compile(
    rf"\bfor ({_NUMBER})\b(?!\s?(?:days|nights|{_CURRENCY}))"
    rf"|\b({_NUMBER}) (?:people|persons|of us|passengers|travell?ers|adults)\b",
    re.IGNORECASE,
)
_CITY: Final = "|".join(CITIES)
_ORIGIN: Final = re.compile(rf"\bfrom ({_CITY})\b", re.IGNORECASE)
_NAMED: Final = re.compile(rf"\b({_CITY})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was said so far; of two things that do not go together, the later one."""

    origin: str = "Vienna"
    destination: str | None = None
    travellers: int = 1
    budget: float | None = None
    currency: str = "EUR"


def read_wishes(prompts: Iterable[str]) -> Wishes:
    """Go through everything that somebody wrote, oldest first."""
    wishes = Wishes()
    for text in prompts:
        origin, destination = _read_way(text)
        budget, currency = _read_budget(text) or (wishes.budget, wishes.currency)
        wishes = Wishes(
            origin=origin or wishes.origin,
            destination=destination or wishes.destination,
            travellers=_read_travellers(text) or wishes.travellers,
            budget=budget,
            currency=currency,
        )
    return wishes


def _read_way(text: str) -> tuple[str | None, str | None]:
    start = _ORIGIN.search(text)
    origin = start[1].title() if start else None
    goals = [name.title() for name in _NAMED.findall(text) if name.title() != origin]
    return origin, goals[-1] if goals else None


def _read_budget(text: str) -> tuple[float, str] | None:
    found = _BUDGET.search(text)
    if found is None:
        return None
    amount, currency = found[2] or found[3], found[1] or found[4]
    return float(amount.replace(",", "")), _CURRENCIES[currency.lower()]


def _read_travellers(text: str) -> int | None:
    found = _TRAVELLERS.search(text)
    if found is None:
        return None
    number = (found[1] or found[2]).lower()
    return _NUMBERS.get(number) or int(number)
