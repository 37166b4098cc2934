"""A round: one answer, the calls in it, and what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.messages import ModelRequestPart

from agent_worker.engine.pydantic_ai.history import RecordedResult


@dataclass(slots=True)
class Round:
    """The calls of the answer at `position` of the run, known by their index in it.

    Attributes:
        position: The place of the answer among the messages of the run.
        native_ids: The ids of its calls, as Pydantic AI knows them; all different.
        stored_ids: The same as the model wrote them.
        recorded: Results that were stored under an earlier lease.
        stored: Indexes of calls whose results are stored.
        executed: Indexes of calls that came to a good end here.
        reveals: Names of tools that a call's result made available.
        said: Parts that a tool put into the run, for the next model call.
        outputs: What an output function made of a call's arguments.
    """

    position: int
    native_ids: Sequence[str] = ()
    stored_ids: Sequence[str] = ()
    recorded: Mapping[int, RecordedResult] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)
    executed: set[int] = field(default_factory=set)
    reveals: dict[int, list[str]] = field(default_factory=dict)
    said: dict[int, list[ModelRequestPart]] = field(default_factory=dict)
    outputs: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stored.update(self.recorded)

    def index_of(self, native_id: str) -> int | None:
        """The index of a call; None for one that the answer does not hold."""
        try:
            return self.native_ids.index(native_id)
        except ValueError:
            return None
