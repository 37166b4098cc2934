"""The newest messages: what every agent has that asks for nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from agent_worker.window.measure import Measure
from agent_worker.window.past import Past
from agent_worker.window.protocol import Window, WindowRequest
from shared.errors import AgentDefinitionError
from shared.message import Draft
from shared.window import build_window


@dataclass(frozen=True, slots=True)
class LastMessages:
    """The newest `size` messages, the run's input included, as long as they make whole pairs.

    Without a size it is the `history_size` of the run, the agent or the settings, in this order; a
    run's own comes before the size given here, too. Nothing is read but these messages, and notes
    among them take their places.

    Raises:
        AgentDefinitionError: A size below 1.
    """

    size: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise AgentDefinitionError(f"LastMessages({self.size}): make it at least 1.")

    @property
    def name(self) -> str:
        return "last_messages"

    def first_read(self, history_size: int) -> int:
        return history_size - 1

    async def build(self, past: Past, request: WindowRequest) -> Window:
        return Window(build_window(past.messages, size=request.history_size))

    async def measure(self, model: str | None) -> Measure:
        """As a measure for policies that cut by one."""
        del model
        return Measure(room=self.size or 1, costs=_one_each)


async def _one_each(messages: Sequence[Draft]) -> list[int]:
    return [1] * len(messages)
