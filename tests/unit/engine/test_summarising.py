"""Summaries by models and agents of Pydantic AI."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from agent_worker.context import RunInfo
from agent_worker.engine.protocol import EngineLimits
from agent_worker.engine.pydantic_ai import patience
from agent_worker.engine.pydantic_ai.pricing import price_of
from agent_worker.engine.pydantic_ai.summarising import INSTRUCTIONS, prompt_of
from agent_worker.window.protocol import WindowRequest
from agent_worker.window.summariser import summariser_of
from shared.message import (
    Draft,
    Message,
    MessageKind,
    Role,
    ToolCall,
    Usage,
    tool_result_draft,
    user_draft,
)
from tests.unit.window.room import number

LIMITS = EngineLimits(max_rounds=3, model_timeout_s=0.2, tool_timeout_s=1, model_retries=2)
CALL = ToolCall(id="c", name="book", arguments='{"room":7}')
TALK = number(
    [
        user_draft("A room for Ada, please."),
        Draft(role=Role.ASSISTANT, kind=MessageKind.TOOL_CALL, tool_calls=(CALL,)),
        tool_result_draft(CALL, "booked " + "x" * 10_000),
        Draft(role=Role.ASSISTANT, content="Room 7 is yours."),
    ],
    "past",
)


def request() -> WindowRequest:
    """On behalf of a run."""
    [own] = number([user_draft("and now?")], "now")
    return WindowRequest(RunInfo("now", "agent"), own, history_size=20, limits=LIMITS)


def model(*says: Any) -> tuple[FunctionModel, list[tuple[list[ModelMessage], str | None]]]:
    """A model that says, or raises, one thing after the other; and what it was asked."""
    asked: list[tuple[list[ModelMessage], str | None]] = []
    left = list(says)

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append((messages, info.instructions))
        said = left.pop(0)
        if isinstance(said, Exception):
            raise said
        if said is None:
            await asyncio.Event().wait()
        usage = RequestUsage(input_tokens=50, output_tokens=5)
        return ModelResponse(parts=[TextPart(said)], usage=usage)

    return FunctionModel(answer), asked


def prompt(messages: Sequence[ModelMessage]) -> str:
    """What the summariser was asked."""
    [request] = messages
    assert isinstance(request, ModelRequest)
    [text] = [part.content for part in request.parts if isinstance(part, UserPromptPart)]
    assert isinstance(text, str)
    return text


async def test_a_model_is_told_how_and_what() -> None:
    """The summary so far, and the messages as text, each within bounds."""
    writes, asked = model("Ada has room 7.")
    made = await summariser_of(writes)("Ada is a guest.", TALK, request())
    took = Usage(input_tokens=50, output_tokens=5, requests=1)
    assert (made.text, made.usage) == ("Ada has room 7.", took)
    assert made.price is not None
    assert made.price.unpriced == "unknown_model"
    [(messages, instructions)] = asked
    assert instructions == INSTRUCTIONS
    text = prompt(messages)
    assert text.index("Ada is a guest.") < text.index("[user] A room for Ada, please.")
    assert '[assistant calls book] {"room":7}' in text
    assert "[result of book] booked xxx" in text
    assert "[assistant] Room 7 is yours." in text
    assert len(text) < 6_000


async def test_an_agent_goes_by_its_own_instructions() -> None:
    """It is asked as a model is."""
    writes, asked = model("short")
    agent = Agent(writes, instructions="In one word.", output_type=str)
    made = await summariser_of(agent)(None, TALK, request())
    assert made.text == "short"
    [(messages, instructions)] = asked
    assert instructions == "In one word."
    assert prompt(messages).startswith("The messages that follow:\n[user]")


async def test_a_model_that_fails_for_a_moment_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As often as a run's own; one that hangs is given up in time."""
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(patience, "JITTER_S", 0.0)
    writes, asked = model(ModelHTTPError(503, "m"), None, "at last")
    made = await summariser_of(writes)(None, TALK, request())
    assert made.text == "at last"
    assert len(asked) == 3


async def test_an_agent_that_gives_no_text_has_failed() -> None:
    """Whatever it gives, it is not what models read."""
    agent = Agent(TestModel(), output_type=int)
    with pytest.raises(TypeError, match="answered with a int"):
        await summariser_of(agent)(None, TALK, request())  # type: ignore[arg-type]


async def test_the_lease_is_confirmed_before_a_summariser_is_asked() -> None:
    """A zombie asks no model."""
    order: list[str] = []

    async def confirm() -> None:
        order.append("confirmed")

    async def write(so_far: str | None, messages: Sequence[Message]) -> str:
        order.append("asked")
        return "short"

    [own] = number([user_draft("and now?")], "now")
    on_behalf = WindowRequest(
        RunInfo("now", "agent"), own, history_size=20, limits=LIMITS, confirm=confirm
    )
    await summariser_of(write)(None, TALK, on_behalf)
    writes, _ = model("short")
    await summariser_of(writes)(None, TALK, on_behalf)
    assert order == ["confirmed", "asked", "confirmed"]


async def test_what_a_summary_cost_is_said_where_it_is_known() -> None:
    """As of any answer: by the model that gave it."""
    answers = [
        ModelResponse(
            parts=[TextPart("short")],
            usage=RequestUsage(input_tokens=1_000, output_tokens=100),
            model_name="gpt-4o-mini",
            provider_name="openai",
        )
    ] * 2
    price = price_of([*answers], Usage(input_tokens=2_000, output_tokens=200))
    assert (price.provider, price.model) == ("openai", "gpt-4o-mini")
    assert price.cost == 2 * answers[0].cost().total_price > 0
    assert price_of([*answers], Usage(input_tokens=9_000)).unpriced == "nested"


def test_an_assistant_that_says_nothing_leaves_no_empty_line() -> None:
    """Only its calls."""
    assert "[assistant] \n" not in prompt_of(None, TALK)
