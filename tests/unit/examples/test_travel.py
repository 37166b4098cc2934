"""The travel agent's script: it answers what was said and what tools found, not by heart."""

from typing import Any

import pytest
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
)

from examples.travel.script import Move, decide
from examples.travel.wishes import Wishes, read_wishes

FLIGHTS = [
    {"id": "VIE-LIS-0640", "airline": "Sunrise Air", "departs": "06:40", "price_eur": 160.0},
    {"id": "VIE-LIS-2150", "airline": "Owl Jet", "departs": "21:50", "price_eur": 140.0},
]


def asks(text: str) -> ModelMessage:
    """Somebody writes."""
    return ModelRequest([UserPromptPart(text)])


def answers(tool: str, value: Any, outcome: str = "success") -> ModelMessage:
    """A tool answers."""
    part = ToolReturnPart(tool, value, tool_call_id="call", outcome=outcome)  # type: ignore[arg-type]  # one of its literals
    return ModelRequest([part])


def called(move: Move) -> list[str]:
    """The tools that a move asks for."""
    return [call.tool for call in move.calls]


@pytest.mark.parametrize(
    ("prompts", "wishes"),
    [
        (["To Rome"], Wishes(destination="Rome")),
        (["from oslo to PARIS"], Wishes(origin="Oslo", destination="Paris")),
        (["To Rome for two, $600"], Wishes("Vienna", "Rome", 2, 600, "USD")),
        (["Rome, 3 people, 1,500 euros"], Wishes("Vienna", "Rome", 3, 1500, "EUR")),
        (["Rome for 5 days"], Wishes(destination="Rome")),
        (["To Rome for two", "make it Berlin instead"], Wishes("Vienna", "Berlin", 2)),
        (["Rome, 100 GBP", "rather 200 USD"], Wishes("Vienna", "Rome", 1, 200, "USD")),
        (["Hello!"], Wishes()),
    ],
)
def test_wishes_are_read_from_everything_that_was_said(prompts: list[str], wishes: Wishes) -> None:
    """Cities, people and budgets are understood, and what was said later counts."""
    assert read_wishes(prompts) == wishes


def test_without_a_destination_it_asks() -> None:
    """A wish that is missing is asked for, with what can be chosen."""
    move = decide([asks("Hello!")])
    assert "Lisbon" in move.text
    assert not move.calls


def test_flights_and_weather_are_looked_up_at_the_same_time() -> None:
    """The first round asks for two tools at once."""
    assert called(decide([asks("To Lisbon")])) == ["search_flights", "get_weather"]


def test_a_budget_in_another_currency_is_converted_first() -> None:
    """Prices are compared in euros."""
    messages = [asks("To Lisbon, 600 USD"), answers("search_flights", FLIGHTS)]
    assert called(decide(messages)) == ["convert_currency"]


def test_the_cheapest_flight_is_booked_for_all_travellers() -> None:
    """What the tools found decides which flight it is."""
    move = decide([asks("To Lisbon for two"), answers("search_flights", FLIGHTS)])
    assert move.calls[0].arguments == {"flight_id": "VIE-LIS-2150", "passengers": 2}


def test_nothing_is_booked_over_the_budget() -> None:
    """A trip that costs too much is declined with the difference."""
    messages = [asks("To Lisbon for two, 200 EUR"), answers("search_flights", FLIGHTS)]
    move = decide(messages)
    assert not move.calls
    assert "80.00 EUR over" in move.text


def test_a_tool_that_failed_is_not_taken_for_an_answer() -> None:
    """A failed search ends in an excuse and not in a booking."""
    messages = [asks("To Lisbon"), answers("search_flights", "it broke", "failed")]
    assert not decide(messages).calls


def test_a_follow_up_gives_the_earlier_booking_back() -> None:
    """Another destination in the same conversation replaces the booking, at the same time."""
    messages = [
        asks("To Lisbon"),
        answers("search_flights", FLIGHTS),
        answers("book_flight", {"reference": "ABC234"}),
        ModelResponse([TextPart("Done!")]),
        asks("Make it Berlin instead"),
    ]
    assert decide(messages).calls[0].arguments["destination"] == "Berlin"
    move = decide([*messages, answers("search_flights", FLIGHTS)])
    assert called(move) == ["book_flight", "cancel_booking"]
    assert move.calls[1].arguments == {"reference": "ABC234"}


def test_small_talk_behind_a_booking_books_nothing() -> None:
    """Saying thanks does not buy the same trip again."""
    messages = [
        asks("To Lisbon"),
        answers("search_flights", FLIGHTS),
        answers("book_flight", {"reference": "ABC234"}),
        asks("Thank you!"),
    ]
    assert not decide(messages).calls
    assert "ABC234" in decide(messages).text
