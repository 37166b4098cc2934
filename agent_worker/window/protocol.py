"""Window policies: which of the messages before a run its model is shown."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from agent_worker.context import RunInfo
from agent_worker.engine.protocol import EngineLimits
from agent_worker.window.past import Past
from shared.message import Draft, Message


async def _confirm_nothing() -> None:
    """Outside of a worker nobody can take a run away."""


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """For which run a window is built.

    Attributes:
        run: Ids and metadata.
        input: The run's own input, which the model is shown behind the window.
        history_size: How many messages the model may see at the run's start, its input included,
            by whoever has a say: the run, the agent, the settings.
        asked_size: The same, only where the run itself asked for it. It bounds every policy.
        model: The agent's model as the worker announces it; None where that is not known.
        limits: Bounds of model calls, for policies that make some.
        summary: What this run has written in the place of older messages, if it has.
        has_answered: Whether the run has stored an answer: it is being resumed.
        confirm: To be awaited before a model call, as in `EngineRequest.confirm`.
    """

    run: RunInfo
    input: Message
    history_size: int
    limits: EngineLimits
    asked_size: int | None = None
    model: str | None = None
    summary: Message | None = None
    has_answered: bool = False
    confirm: Callable[[], Awaitable[None]] = field(default=_confirm_nothing, compare=False)


@dataclass(frozen=True, slots=True)
class Window:
    """What a policy chose.

    Attributes:
        messages: What the model is shown before the run's own messages, oldest first.
        summary: A message that the run is to store now, before its engine starts; `messages` says
            already what it says. Only where `WindowRequest.summary` was None.
        tokens: What `messages` and the run's input come to; None where nobody counted.
        counted: How: ``tiktoken:<encoding>``, ``own`` or ``estimate``.
    """

    messages: tuple[Message, ...]
    summary: Draft | None = None
    tokens: int | None = None
    counted: str | None = None


class WindowPolicy(Protocol):
    """Chooses what a model is shown of the messages before a run.

    Guarantees that hold with every policy, since they are kept above it:

    - Each call is followed by its results and each result stands behind its call. Notes (errors,
      summaries as they are stored) are not shown.
    - The run's own messages, its input first, follow the window, uncut.
    - A run that asked for a `history_size` of its own is shown no more messages than that at its
      start.

    Guarantees that a policy gives:

    - *Determinism*: what it chooses follows from what is stored before the run's first message, and
      from `WindowRequest`. So a run that is resumed after its first answer sees what it saw then.
    - *Order*: messages keep theirs. A window may begin with a user's, an assistant's or a system
      message, never with a result.
    - *Economy*: it reads back only as far as it has to.

    `build` runs under the run's time limit, and is cancelled with the run.
    """

    @property
    def name(self) -> str:
        """One word for logs."""
        ...

    def first_read(self, history_size: int) -> int:
        """How many messages to read together with taking the run, which costs nothing extra."""
        ...

    async def build(self, past: Past, request: WindowRequest) -> Window:
        """Choose.

        Raises:
            EngineError: The run cannot go on; its `code` ends up in the run's error.
            NewerVersionError: What was read needs a newer worker. To be let through.
            StoreUnavailableError: The store was away for too long. To be let through.
        """
        ...
