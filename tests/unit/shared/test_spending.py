"""Spending: what the messages of a run say that it took, and what that cost."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.codec import encode, stored_form
from shared.message import Draft, Price, Role, Usage
from shared.money import exact, format_usd, from_units, to_units
from shared.run import Ending, RunStatus
from shared.spending import Spending, spending_of

amounts = st.decimals(0, 999_999, places=12)


def answer(model: str | None, cost: str = "0", **price: str) -> Draft:
    """A model's answer that took ten tokens."""
    return Draft(
        role=Role.ASSISTANT,
        content="x",
        usage=Usage(input_tokens=7, output_tokens=3, requests=1),
        price=Price(provider="acme", model=model, known_cost=Decimal(cost), **price),
    )


def test_costs_are_added_up_by_model() -> None:
    """As the engine reported the models; the sum over them is the whole."""
    spending = spending_of([answer("a", "0.1"), answer("b", "0.2"), answer("a", "0.02")])
    assert [(each.model, each.cost) for each in spending.models] == [
        ("a", Decimal("0.12")),
        ("b", Decimal("0.2")),
    ]
    assert (spending.cost, spending.known_cost) == (Decimal("0.32"), Decimal("0.32"))
    assert spending.models[0].usage == Usage(input_tokens=14, output_tokens=6, requests=2)


def test_an_unknown_price_makes_the_cost_unknown_and_says_why() -> None:
    """None, never 0; what is known is told beside it."""
    spending = spending_of([answer("a", "0.1"), answer("own", unpriced="unknown_model")])
    assert (spending.cost, spending.known_cost) == (None, Decimal("0.1"))
    assert spending.unpriced == ("unknown_model",)
    assert [each.cost for each in spending.models] == [Decimal("0.1"), None]


def test_an_engine_that_reports_no_price_is_not_taken_for_free() -> None:
    """Functions and other engines say what they took, and not of which model."""
    spending = spending_of([answer("a").model_copy(update={"price": None})])
    assert (spending.cost, spending.unpriced) == (None, ("not_reported",))


def test_a_run_that_asked_no_model_cost_nothing() -> None:
    """Cancelled before its first answer, say. Calls of tools cost nothing by themselves."""
    messages = [
        Draft(role=Role.USER, content="x"),
        Draft(role=Role.TOOL, content="y", usage=Usage(tool_calls=1), waited_ms=500),
    ]
    spending = spending_of(messages)
    assert (spending.cost, spending.models) == (Decimal(0), ())
    assert (spending.model_s, spending.tool_s) == (0, 0.5)


def test_waiting_is_divided_between_models_and_tools() -> None:
    """In seconds."""
    waited = [answer("a").model_copy(update={"waited_ms": each}) for each in (1200, 300)]
    spending = spending_of([*waited, Draft(role=Role.TOOL, content="y", waited_ms=40)])
    assert (spending.model_s, spending.tool_s) == (1.5, 0.04)


def test_money_is_stored_in_plain_digits() -> None:
    """A string, so that no reader makes a binary fraction of it, and never 1E-7."""
    ending = Ending(status=RunStatus.COMPLETED, spending=spending_of([answer("a", "0.0000001000")]))
    stored = encode(ending)
    assert '"cost":"0.0000001"' in stored
    assert stored_form(ending) == ending
    assert encode(Price(known_cost=Decimal(100))) == '{"known_cost":"100"}'


@given(amount=amounts)
def test_units_are_exact(amount: Decimal) -> None:
    """What a store adds up as whole numbers is the amount, to the last digit."""
    assert from_units(to_units(amount)) == amount == exact(amount)
    assert Decimal(format_usd(exact(amount))) == amount
    assert "E" not in format_usd(amount)


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "1000001"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    """Whoever wrote it."""
    with pytest.raises(ValidationError):
        Spending(known_cost=Decimal(amount))


def test_a_record_from_before_there_was_spending_is_read() -> None:
    """Nothing is known of it, so its cost is unknown and not nothing."""
    old = Ending.model_validate_json('{"status":"completed","output":"x"}')
    assert (old.spending.cost, old.spending.models) == (None, ())
