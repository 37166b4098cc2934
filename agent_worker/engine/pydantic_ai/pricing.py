"""Pricing: what an answer cost, at the prices that genai-prices knows.

The price is that of the model that answered, as the provider named it, at the time of the answer.
It is stored with the message, so later prices, and workers that take the run over, do not change
it.
"""

from collections.abc import Collection, Iterable
from decimal import Decimal
from typing import Final

import structlog
from pydantic_ai.messages import ModelMessage, ModelResponse

from shared.message import Price, Usage

UNKNOWN_MODEL: Final = "unknown_model"
NO_USAGE: Final = "no_usage"
NESTED: Final = "nested"

_NOTHING: Final = Decimal(0)

log = structlog.get_logger()


def answer_price(response: ModelResponse, took: Usage, spent: Decimal | None) -> Price:
    """What an answer cost.

    `took` is what the run took since its last message, and `spent` what of that Pydantic AI priced:
    more than the answer itself, where other models were asked before and gave none.
    """
    cost, unpriced = _response_cost(response)
    known = max(cost or _NOTHING, spent or _NOTHING)
    if unpriced is None and not _is_all(response, took):
        unpriced = NESTED
    return Price(
        provider=response.provider_name,
        model=response.model_name,
        known_cost=known,
        unpriced=unpriced,
    )


def price_of(messages: Iterable[ModelMessage], took: Usage) -> Price:
    """What all answers among the messages cost, of whichever models. `took` is what they took."""
    answers = [message for message in messages if isinstance(message, ModelResponse)]
    prices = [answer_price(answer, Usage(), None) for answer in answers]
    unpriced = next((price.unpriced for price in prices if price.unpriced is not None), None)
    if unpriced is None and took.total_tokens > sum(each.usage.total_tokens for each in answers):
        unpriced = NESTED
    return Price(
        provider=_only({price.provider for price in prices}),
        model=_only({price.model for price in prices}),
        known_cost=sum((price.known_cost for price in prices), _NOTHING),
        unpriced=unpriced,
    )


def _only(names: Collection[str | None]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def nested_price(took: Usage, spent: Decimal | None) -> Price | None:
    """What agents within a tool cost that count on the run's usage; None where there were none.

    Which models they asked is not reported, and of several calls not which of them are priced.
    """
    if not took.requests and not took.total_tokens:
        return None
    is_all = took.requests == 1 and spent is not None
    return Price(known_cost=spent or _NOTHING, unpriced=None if is_all else NESTED)


def _response_cost(response: ModelResponse) -> tuple[Decimal | None, str | None]:
    """The cost of an answer, or why it is unknown. Pricing never fails a run."""
    reported: Decimal | None = getattr(response.usage, "cost", None)
    if reported is not None:
        return reported, None
    if not response.usage.has_values():
        return None, NO_USAGE
    try:
        return response.cost().total_price, None
    except LookupError:
        return None, UNKNOWN_MODEL
    except (AssertionError, ValueError):  # no name of a model; counts that contradict each other
        return None, NO_USAGE if response.model_name else UNKNOWN_MODEL
    except Exception as error:  # noqa: BLE001 - a library's tables; the answer is worth more than its price
        log.warning("price.failed", error=type(error).__name__)
        return None, UNKNOWN_MODEL


def _is_all(response: ModelResponse, took: Usage) -> bool:
    """Whether nothing was taken besides the answer, or what else was taken is priced as well."""
    others = [one.usage for one in getattr(response, "failed_attempts", None) or () if one.usage]
    tokens = response.usage.total_tokens + sum(usage.total_tokens for usage in others)
    return took.total_tokens <= tokens and all(
        usage.cost is not None for usage in others if usage.total_tokens
    )
