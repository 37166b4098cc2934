"""An agent for tests with real workers whose model has a price.

The agent `priced` calls the tool `wait` once and then answers `done`. Its model says that it is
gpt-4o, of OpenAI, and that each call took 1,000 tokens in and 100 out: 0.0035 dollars.
"""

from decimal import Decimal
from typing import Final

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from agent_worker import serve
from tests.agents import wait

CALL_COST: Final = Decimal("0.0035")
CALL_TOKENS: Final = 1_100


async def _answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    has_waited = isinstance(messages[-1].parts[-1], ToolReturnPart)
    part = TextPart("done") if has_waited else ToolCallPart("wait", {"name": "gate"})
    return ModelResponse(
        parts=[part],
        usage=RequestUsage(input_tokens=1_000, output_tokens=100),
        provider_name="openai",
    )


_agent = Agent(FunctionModel(_answer, model_name="gpt-4o"), name="priced", tools=[wait])
priced = serve(_agent, stream_text=False)
