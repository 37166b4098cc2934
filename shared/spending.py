"""Spending: what a run took, of which models, and what that cost.

It is a function of the run's stored messages. So a worker that takes a run over counts each model
call once, those before it included; a call whose answer was never stored is not in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from shared.message import Draft, Price, Role, Usage
from shared.money import Usd

NOT_REPORTED: Final = "not_reported"
"""Why a cost is unknown: the engine says neither the model nor what it took in money."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelSpending(_Value):
    """What a run took of one model."""

    provider: str | None = None
    model: str | None = None
    """As the provider answered, which may be more exact than what was asked for. None: unknown,
    such as for agents within a tool."""
    usage: Usage = Usage()
    cost: Usd | None = None
    """None where not all of it is known; then `known_cost` is less than the cost."""
    known_cost: Usd = Decimal(0)
    unpriced: tuple[str, ...] = ()
    """Why the cost is unknown; see `Price.unpriced`."""


class Spending(_Value):
    """What a run took in all."""

    models: tuple[ModelSpending, ...] = ()
    cost: Usd | None = None
    """US dollars. None where not all of it is known, never 0 for that: see `unpriced`."""
    known_cost: Usd = Decimal(0)
    """What of the cost is known."""
    unpriced: tuple[str, ...] = ()
    """Why the cost is unknown; empty where it is known, and where nothing is known of the run."""
    model_s: float = Field(default=0.0, ge=0)
    """Seconds that the run waited for models, further tries included."""
    tool_s: float = Field(default=0.0, ge=0)
    """Seconds that it waited for tools. Tools beside each other are waited for once."""


@dataclass(slots=True)
class _Account:
    usage: Usage = field(default_factory=Usage)
    known_cost: Decimal = Decimal(0)
    unpriced: set[str] = field(default_factory=set)

    def add(self, usage: Usage, price: Price | None) -> None:
        self.usage += usage
        if price is None:
            self.unpriced.add(NOT_REPORTED)
            return
        self.known_cost += price.known_cost
        if price.unpriced is not None:
            self.unpriced.add(price.unpriced)


def spending_of(messages: Iterable[Draft]) -> Spending:
    """What these messages of a run took. A run that asked no model cost nothing: 0, and known."""
    accounts: dict[tuple[str | None, str | None], _Account] = {}
    model_ms = tool_ms = 0
    for message in messages:
        if message.role is Role.TOOL:
            tool_ms += message.waited_ms or 0
        else:
            model_ms += message.waited_ms or 0
        usage, price = message.usage or Usage(), message.price
        if price is None and not usage.requests and not usage.total_tokens:
            continue
        who = (None, None) if price is None else (price.provider, price.model)
        accounts.setdefault(who, _Account()).add(usage, price)
    models = tuple(_spending(*who, account) for who, account in accounts.items())
    reasons = {reason for each in models for reason in each.unpriced}
    known = sum((each.known_cost for each in models), Decimal(0))
    return Spending(
        models=models,
        cost=None if reasons else known,
        known_cost=known,
        unpriced=tuple(sorted(reasons)),
        model_s=model_ms / 1000,
        tool_s=tool_ms / 1000,
    )


def _spending(provider: str | None, model: str | None, account: _Account) -> ModelSpending:
    return ModelSpending(
        provider=provider,
        model=model,
        usage=account.usage,
        cost=None if account.unpriced else account.known_cost,
        known_cost=account.known_cost,
        unpriced=tuple(sorted(account.unpriced)),
    )
