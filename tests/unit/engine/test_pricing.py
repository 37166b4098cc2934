"""Pricing: what an answer cost, or why that is unknown."""

from decimal import Decimal
from typing import Any, Final

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from agent_worker.context import RunInfo
from agent_worker.engine.protocol import EngineLimits, EngineRequest
from agent_worker.engine.pydantic_ai.engine import PydanticAIEngine
from agent_worker.engine.pydantic_ai.pricing import answer_price
from shared.message import Draft, Message, Price, Role, Usage, user_draft
from shared.spending import spending_of
from shared.testing.conversation.value import run_name

TOKENS: Final[dict[str, Any]] = {"input_tokens": 1_000, "output_tokens": 100}


def model(name: str, *parts: Any, provider: str = "openai") -> FunctionModel:
    """A model that answers as one of a provider would, first with `parts`, then with text."""
    asked = 0

    async def answer(_: list[ModelMessage], __: AgentInfo) -> ModelResponse:
        nonlocal asked
        asked += 1
        return ModelResponse(
            parts=list(parts) if parts and asked == 1 else [TextPart("done")],
            usage=RequestUsage(**TOKENS),
            model_name=name,
            provider_name=provider,
        )

    return FunctionModel(answer, model_name=name)


async def told(agent: Agent[Any, Any]) -> list[Draft]:
    """The messages of a run of the agent, behind its input."""
    run = RunInfo(run_id=run_name(), agent="a", conversation_id=None, attempt=1, metadata={})
    asked = Message.from_draft(user_draft("hello"), run_id=run.run_id, position=0)
    limits = EngineLimits(max_rounds=9, model_timeout_s=9, tool_timeout_s=9, model_retries=0)
    request = EngineRequest(run=run, history=(), own=(asked,), limits=limits, stream_text=False)
    events = PydanticAIEngine(agent).run(request)
    return [event async for event in events if isinstance(event, Draft)]


async def test_an_answer_has_the_price_of_the_model_that_gave_it() -> None:
    """A thousand tokens in and a hundred out of gpt-4o, at 2.50 and 10 dollars a million."""
    [answer] = await told(Agent(model("gpt-4o")))
    assert answer.price == Price(provider="openai", model="gpt-4o", known_cost=Decimal("0.0035"))
    assert spending_of([answer]).cost == Decimal("0.0035")


async def test_the_model_that_answered_is_charged_and_not_the_one_that_was_asked_for() -> None:
    """A provider names the version that it used, and it is looked up by that."""
    [answer] = await told(Agent(model("gpt-4o-mini-2024-07-18")))
    assert answer.price is not None
    assert answer.price.model == "gpt-4o-mini-2024-07-18"
    assert answer.price.cost == Decimal("0.00021")


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("our-own-llm", "openai"),
        ("gpt-4o", "our-own-cloud"),
    ],
)
async def test_an_unknown_price_is_none_and_says_why(name: str, provider: str) -> None:
    """Never 0, which would be taken for free."""
    [answer] = await told(Agent(model(name, provider=provider)))
    assert answer.price is not None
    assert (answer.price.cost, answer.price.unpriced) == (None, "unknown_model")


def test_a_provider_that_does_not_say_what_it_took_has_no_price() -> None:
    """Nor has an answer of nobody."""
    for name, reason in (("gpt-4o", "no_usage"), (None, "no_usage")):
        response = ModelResponse(parts=[TextPart("x")], model_name=name, provider_name="openai")
        price = answer_price(response, Usage(requests=1), None)
        assert (price.cost, price.unpriced) == (None, reason)
    nameless = ModelResponse(parts=[TextPart("x")], usage=RequestUsage(**TOKENS))
    assert answer_price(nameless, Usage(**TOKENS), None).unpriced == "unknown_model"


async def test_agents_within_a_tool_are_paid_for_by_its_result() -> None:
    """Where they count on the run's usage; a single call of a model with a price is known."""
    inner = Agent(model("gpt-4o-mini"))
    outer: Agent[Any, str] = Agent(model("gpt-4o", ToolCallPart("ask", {}, tool_call_id="c")))

    @outer.tool
    async def ask(context: RunContext[Any]) -> str:
        return (await inner.run("x", usage=context.usage)).output

    messages = await told(outer)
    [result] = [message for message in messages if message.role is Role.TOOL]
    assert result.price == Price(known_cost=Decimal("0.00021"))
    assert spending_of(messages).cost == Decimal("0.00721")


async def test_several_calls_within_a_tool_are_not_all_known() -> None:
    """Pydantic AI passes over what it has no price for, so the sum may be too little."""
    inner = [Agent(model(name)) for name in ("gpt-4o-mini", "our-own-llm")]
    outer: Agent[Any, str] = Agent(model("gpt-4o", ToolCallPart("ask", {}, tool_call_id="c")))

    @outer.tool
    async def ask(context: RunContext[Any]) -> str:
        return "".join([(await each.run("x", usage=context.usage)).output for each in inner])

    spending = spending_of(await told(outer))
    assert (spending.cost, spending.unpriced) == (None, ("nested",))
    assert spending.known_cost == Decimal("0.00721")


async def test_an_answer_that_was_rejected_is_paid_for_as_well() -> None:
    """A fallback that asks a second model has asked the first one, too."""

    def is_unfit(response: ModelResponse) -> bool:
        return response.model_name == "gpt-4o"

    fallback = FallbackModel(model("gpt-4o"), model("gpt-4o-mini"), fallback_on=is_unfit)
    [answer] = await told(Agent(fallback))
    assert answer.price is not None
    assert answer.price.model == "gpt-4o-mini"
    assert answer.price.known_cost == Decimal("0.00371")


def test_a_price_that_a_gateway_reports_is_believed() -> None:
    """It is what is billed."""
    usage = RequestUsage(**TOKENS)
    usage.cost = Decimal("0.5")
    response = ModelResponse(parts=[TextPart("x")], usage=usage, model_name="our-own-llm")
    took = Usage(**TOKENS, requests=1)
    assert answer_price(response, took, None).cost == Decimal("0.5")
