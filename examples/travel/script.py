"""The script that plays the travel agent's model where no provider's key is set.

It reads the conversation as a model would (what people want, what tools answered) and decides what
to say next. So it answers follow-ups, and goes on where it was when another worker takes over.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from examples.travel.tools import CITIES
from examples.travel.wishes import read_wishes

THINK_S: Final = 0.4
"""Before the first word, as a model would take."""
WORD_S: Final = 0.035
"""Between two words, so that one can watch an answer being written."""

_PACK: Final = {"sunny": "sunglasses", "cloudy": "a jumper", "snowy": "gloves"}


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model asks for."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Move:
    """What the model says next: words, and tools to call at the same time."""

    text: str
    calls: tuple[Call, ...] = ()


def build_scripted_model() -> FunctionModel:
    """The script as a model of Pydantic AI, which streams its words."""
    return FunctionModel(stream_function=_speak, model_name="scripted-travel-model")


async def _speak(
    messages: list[ModelMessage], _info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    await asyncio.sleep(THINK_S)
    move = decide(messages)
    for word in re.findall(r"\S+\s*", move.text):
        yield word
        await asyncio.sleep(WORD_S)
    for index, call in enumerate(move.calls):
        # Like the ids of real providers: unique within one answer, and nowhere else.
        call_id = f"call_{len(messages)}_{index}"
        yield {index: DeltaToolCall(call.tool, json.dumps(call.arguments), tool_call_id=call_id)}


def decide(messages: Sequence[ModelMessage]) -> Move:
    """What to say next, given the conversation so far."""
    scene = Scene(messages)
    for step in (_ask, _reassure, _look_around, _convert, _decline, _book):
        if (move := step(scene)) is not None:
            return move
    return _conclude(scene)


class Scene:
    """What is known at this point of the conversation.

    Attributes:
        wishes: What people want.
        is_new: Whether their last message changed that.
        answers: What tools answered since they last said something, by tool; None for a failure.
        booked: The reference of a booking from before that, unless it was given back.
        flight: The cheapest flight, once it is known.
        total_eur: What that costs for all.
        budget_eur: What may be spent, once that is known in euros.
    """

    def __init__(self, messages: Sequence[ModelMessage]) -> None:
        prompts = list(_prompts(messages))
        self.wishes = read_wishes(prompts)
        self.is_new = self.wishes != read_wishes(prompts[:-1])
        self.answers: dict[str, Any] = {}
        self.booked: str | None = None
        for part in _request_parts(messages):
            if isinstance(part, UserPromptPart):
                self._begin_anew()
            elif isinstance(part, ToolReturnPart):
                self.answers[part.tool_name] = _value(part)
        flights = self.answers.get("search_flights") or []
        self.flight: Any = min(flights, key=lambda flight: flight["price_eur"], default=None)
        self.total_eur = self.flight["price_eur"] * self.wishes.travellers if self.flight else 0.0
        self.budget_eur = self._read_budget()

    def _begin_anew(self) -> None:
        if self.answers.get("cancel_booking"):
            self.booked = None
        if booking := self.answers.get("book_flight"):
            self.booked = booking["reference"]
        self.answers = {}

    def _read_budget(self) -> float | None:
        if self.wishes.currency == "EUR":
            return self.wishes.budget
        converted = self.answers.get("convert_currency")
        return float(converted["amount"]) if converted else None


def _ask(scene: Scene) -> Move | None:
    if scene.wishes.destination is None:
        return Move(f"Where would you like to go? I know {', '.join(CITIES)}.")
    if scene.wishes.destination == scene.wishes.origin:
        return Move(f"You start in {scene.wishes.origin}. Where would you like to go?")
    return None


def _reassure(scene: Scene) -> Move | None:
    if scene.is_new or scene.booked is None:
        return None
    return Move(
        f"Your trip to {scene.wishes.destination} is booked, under {scene.booked}. Name another "
        "city, budget or number of travellers and I change it."
    )


def _look_around(scene: Scene) -> Move | None:
    if "search_flights" in scene.answers:
        return None
    origin, destination = scene.wishes.origin, scene.wishes.destination
    return Move(
        f"{destination}, good choice! I look for flights from {origin} and ask for the weather at "
        "the same time.",
        (
            Call("search_flights", {"origin": origin, "destination": destination}),
            Call("get_weather", {"city": destination}),
        ),
    )


def _convert(scene: Scene) -> Move | None:
    amount, currency = scene.wishes.budget, scene.wishes.currency
    if amount is None or currency == "EUR" or "convert_currency" in scene.answers:
        return None
    return Move(
        "Prices are in euros, so let me convert your budget.",
        (Call("convert_currency", {"amount": amount, "source": currency, "target": "EUR"}),),
    )


def _decline(scene: Scene) -> Move | None:
    flight, budget = scene.flight, scene.budget_eur
    if flight is None:
        return Move("No flight could be found just now. Please try again in a moment.")
    if budget is None or scene.total_eur <= budget:
        return None
    return Move(
        f"The cheapest flight to {scene.wishes.destination}, {flight['airline']} at "
        f"{flight['departs']}, is {scene.total_eur:.2f} EUR for {scene.wishes.travellers}: "
        f"{scene.total_eur - budget:.2f} EUR over your budget. I booked nothing. Shall I look for "
        "another city, or do you have a little more?"
    )


def _book(scene: Scene) -> Move | None:
    if "book_flight" in scene.answers:
        return None
    flight, travellers = scene.flight, scene.wishes.travellers
    calls = [Call("book_flight", {"flight_id": flight["id"], "passengers": travellers})]
    seats = "one seat" if travellers == 1 else f"{travellers} seats"
    text = f"{flight['airline']} at {flight['departs']} costs least, so I book {seats}"
    if scene.booked is not None:
        calls.append(Call("cancel_booking", {"reference": scene.booked}))
        text += f" and give {scene.booked} back"
    return Move(f"{text}.", tuple(calls))


def _conclude(scene: Scene) -> Move:
    flight, booking, wishes = scene.flight, scene.answers["book_flight"], scene.wishes
    if booking is None:
        return Move(f"Booking {flight['id']} did not work, and you have paid nothing.")
    text = (
        f"Done! {flight['airline']} takes {wishes.travellers} from {wishes.origin} to "
        f"{wishes.destination} on Friday at {flight['departs']}, for {scene.total_eur:.2f} EUR "
        f"(booking {booking['reference']})."
    )
    if scene.budget_eur is not None:
        text += f" That leaves {scene.budget_eur - scene.total_eur:.2f} EUR of your budget."
    if weather := scene.answers.get("get_weather"):
        advice = f"so pack {_PACK.get(weather['sky'], 'an umbrella')}"
        text += f" Expect {weather['celsius']} °C and {weather['sky']} weather, {advice}."
    return Move(text)


def _prompts(messages: Sequence[ModelMessage]) -> Iterator[str]:
    for part in _request_parts(messages):
        if isinstance(part, UserPromptPart):
            texts = [part.content] if isinstance(part.content, str) else part.content
            yield " ".join(text for text in texts if isinstance(text, str))


def _request_parts(messages: Sequence[ModelMessage]) -> Iterator[object]:
    for message in messages:
        if isinstance(message, ModelRequest):
            yield from message.parts


def _value(part: ToolReturnPart) -> Any:
    """What a tool returned; None when it failed."""
    if part.outcome != "success":
        return None
    return json.loads(part.model_response_str())
