"""Measures: how much room a window has, and what a message takes of it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shared.message import Draft, Message
from shared.window import longest_end

Costs = Callable[[Sequence[Draft]], Awaitable[list[int]]]
"""What each of some messages takes."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A room in messages or tokens, the run's input included.

    Attributes:
        room: How much there is.
        costs: What messages take.
        counted: How tokens are counted; None where messages are.
    """

    room: int
    costs: Costs
    counted: str | None = None

    async def fitting(
        self, messages: Sequence[Message], beside: Sequence[Draft]
    ) -> tuple[int, int]:
        """Where the longest end of `messages` begins that fits, and what that end takes.

        `messages` are pair-safe, and `beside` is what has to have room as well. Nothing fits where
        that alone takes all of it.
        """
        costs = await self.costs(messages)
        taken = sum(await self.costs(beside))
        start = longest_end(messages, costs, room=self.room - taken)
        return start, sum(costs[start:])
