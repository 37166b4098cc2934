"""A token budget: as many of the newest messages as it has room for."""

from dataclasses import dataclass
from typing import Final

from agent_worker.window.counting import CountText, TokenCounter, counter_of
from agent_worker.window.measure import Measure
from agent_worker.window.past import Past
from agent_worker.window.protocol import Window, WindowRequest
from shared.errors import AgentDefinitionError
from shared.window import pair_safe

FIRST_READ: Final = 40


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """The newest messages that take at most `tokens` together with the run's input.

    The budget is for what the conversation brings into the run: the window and the input. Not in it
    are the agent's instructions and the schemas of its tools, which are the same in every run, nor
    what the run itself adds. Leave room for these, and for the answer, below the model's limit. An
    input that takes the whole budget alone is shown alone.

    Tokens are counted by the tokenizer of the agent's model, or of the one that `model` names, such
    as ``openai:gpt-4o``; by `count` where that is given (tokens of a text; it must be pure and
    quick); by an estimate elsewhere. The log event ``window.built`` says which. See
    `agent_worker.window.counting`.

    Raises:
        AgentDefinitionError: No tokens, or both `model` and `count`.
    """

    tokens: int
    model: str | None = None
    count: CountText | None = None

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise AgentDefinitionError(f"TokenBudget({self.tokens}): make it at least 1.")
        if self.model is not None and self.count is not None:
            raise AgentDefinitionError(
                "TokenBudget has both `model` and `count`; give one of them: whose tokenizer to "
                "use, or how to count."
            )

    @property
    def name(self) -> str:
        return "token_budget"

    def first_read(self, history_size: int) -> int:
        del history_size
        return FIRST_READ

    async def build(self, past: Past, request: WindowRequest) -> Window:
        measure = await self.measure(request.model)
        while True:
            safe = pair_safe(past.messages)
            start, cost = await measure.fitting(safe, [request.input])
            # Cut inside of what was read: nothing that lies before it can be in the window.
            if start > 0 or not await past.extend():
                break
        [own] = await measure.costs([request.input])
        return Window(tuple(safe[start:]), tokens=cost + own, counted=measure.counted)

    async def measure(self, model: str | None) -> Measure:
        """As a measure for policies that cut by one; `model` is the agent's."""
        if self.count is not None:
            counter = TokenCounter(self.count, "own")
        else:
            counter = await counter_of(self.model or model)
        return Measure(room=self.tokens, costs=counter.costs, counted=counter.counted)
