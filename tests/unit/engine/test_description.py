"""An agent's card: what its workers tell of it, to those who have none of its code."""

import structlog
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.toolsets import FunctionToolset

from agent_worker import serve
from agent_worker.cards import Cards
from agent_worker.definition import AgentDefinition
from agent_worker.engine.description import card_of
from agent_worker.engine.function import FunctionEngine
from agent_worker.engine.protocol import EngineRequest
from agent_worker.engine.pydantic_ai.description import describe_agent
from shared.card.memory import MemoryAgentCards
from shared.card.value import AgentCard, PromptCard
from shared.run import AgentInfo

SECRET = "sk-Zq5ecretQz"


class Order(BaseModel):
    """What was ordered."""

    item: str


def clerk() -> "Agent[None, Order]":
    agent = Agent(
        TestModel(),
        name="clerk",
        system_prompt=["You are a clerk.", "Be kind."],
        instructions=["Be brief.", lambda: SECRET],
        output_type=Order,
        description="Sells tea.",
    )

    @agent.system_prompt
    def weather() -> str:
        return SECRET

    @agent.instructions
    async def today() -> str:
        return SECRET

    @agent.tool_plain
    def look_up(what: str, limit: int = 3) -> str:
        """Find something.

        Args:
            what: The words to look for.
            limit: How many.
        """
        return f"{what} {limit} {SECRET}"

    return agent


def test_fixed_prompts_are_told_and_computed_ones_are_named() -> None:
    """In the order in which a model gets them; no function of an agent is called for it."""
    assert describe_agent(clerk()).prompts == (
        PromptCard(text="You are a clerk."),
        PromptCard(text="Be kind."),
        PromptCard(is_dynamic=True, name="weather"),
        PromptCard(text="Be brief."),
        PromptCard(is_dynamic=True, name="<lambda>"),
        PromptCard(is_dynamic=True, name="today"),
    )


def test_tools_are_told_with_their_descriptions_and_schemas() -> None:
    """Also those that end a run, since histories call them."""
    card = describe_agent(clerk())
    look_up, end = card.tools
    assert (look_up.name, look_up.description) == ("look_up", "Find something.")
    assert look_up.parameters["required"] == ["what"]
    properties = look_up.parameters["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == {"what", "limit"}
    assert end.name == "final_result"
    assert end.parameters["required"] == ["item"]
    assert not card.has_other_tools


def test_no_secret_and_no_code_is_in_it() -> None:
    """Neither the provider's key, nor what functions hold."""
    model = OpenAIChatModel("gpt-5.2", provider=OpenAIProvider(api_key=SECRET))
    agent = clerk()
    agent.model = model
    card = describe_agent(agent)
    assert (card.provider, card.model) == ("openai", "openai:gpt-5.2")
    stored = card.model_dump_json()
    assert SECRET not in stored
    assert "function" not in stored
    assert AgentCard.model_validate_json(stored) == card


def test_tools_that_are_known_only_later_are_said_to_exist() -> None:
    """Those of a toolset that is wrapped, or comes with a server."""
    tools: FunctionToolset[None] = FunctionToolset([len])
    assert not describe_agent(Agent("test", toolsets=[tools])).has_other_tools
    assert describe_agent(Agent("test", toolsets=[tools.prefixed("x")])).has_other_tools


def test_a_wrapped_agent_and_one_without_a_model_have_cards() -> None:
    """What is inside counts; what is chosen later is unknown."""
    card = describe_agent(WrapperAgent(Agent(name="late", instructions="Hi.")))
    assert (card.provider, card.model) == (None, None)
    assert card.prompts == (PromptCard(text="Hi."),)
    function = describe_agent(Agent(FunctionModel(lambda *_: None), name="f"))  # type: ignore[arg-type]
    assert function.provider == "function"


class Own:
    """An engine of somebody's own, that only keeps to the protocol."""

    info = AgentInfo(name="own", queue="", model="openai:gpt-5.2", tools=("look_up",))

    async def run(self, request: EngineRequest):  # type: ignore[no-untyped-def]
        yield


def test_other_engines_tell_what_they_can() -> None:
    """A function nothing about tools; an engine of one's own what it announces."""

    async def echo(request: EngineRequest) -> str:
        """Say it again."""
        return "x"

    card = card_of("say", FunctionEngine(echo))
    assert (card.agent, card.description, card.has_other_tools) == ("say", "Say it again.", True)
    card = card_of("mine", Own())
    assert (card.agent, card.provider) == ("mine", "openai")
    assert card.tool_names == {"look_up"}


async def test_an_agent_that_cannot_be_described_is_served_all_the_same() -> None:
    """Its worker says so, and tells of the others; it asks each once."""

    class Broken(Own):
        asked = 0

        def describe(self) -> AgentCard:
            self.asked += 1
            raise RuntimeError(SECRET)

    broken = Broken()
    kept = MemoryAgentCards()
    cards = Cards(kept, [AgentDefinition("broken", broken), serve(clerk())])
    with structlog.testing.capture_logs() as said:
        await cards.keep()
        await cards.keep()
    assert await kept.find("broken") is None
    found = await kept.find("clerk")
    assert found is not None
    assert found.tool_names == {"look_up", "final_result"}
    assert broken.asked == 1
    assert [entry["event"] for entry in said] == ["card.failed"]
    assert SECRET not in str(said)
