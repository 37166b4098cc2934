"""Resumption: from what a run has stored, what is to be done next."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_ai.messages import ModelMessage, ModelRequest, UserContent, UserPromptPart

from agent_worker.engine.protocol import EngineRequest
from agent_worker.engine.pydantic_ai.history import model_messages
from shared.message import Message, Role, Usage


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a run goes on.

    Attributes:
        history: What the model knows already, up to the answer or the prompt to go on from.
        prompt: The run's input, where it begins; None where it was taken over.
        answer: The stored answer whose tools are to be called, or whose output is the run's; None
            where a model call comes next.
        results: The stored results of that answer's calls.
        rounds: Model calls made so far.
        usage: What the run took so far.
    """

    history: list[ModelMessage]
    prompt: str | Sequence[UserContent] | None
    answer: Message | None
    results: tuple[Message, ...]
    rounds: int
    usage: Usage

    @classmethod
    def of(cls, request: EngineRequest) -> "Resumption":
        """Read what the run has stored.

        Results behind the last answer go through the calling of its tools once more, where they are
        answered without executing anything: so a round that was cut in half and one that was
        complete are put together in the same way. Anything else behind them was said to the model
        for its next call, so that comes next.
        """
        own = tuple(one for one in request.own if not one.kind.is_note)
        answers = [index for index, message in enumerate(own) if message.role is Role.ASSISTANT]
        usage = sum((message.usage or Usage() for message in own), Usage())
        answer: Message | None = None
        results: tuple[Message, ...] = ()
        loaded = own
        if answers:
            behind = own[answers[-1] + 1 :]
            if all(message.role is Role.TOOL for message in behind):
                answer, results, loaded = own[answers[-1]], behind, own[: answers[-1] + 1]
        is_fresh = len(own) == 1
        return cls(
            history=model_messages(request.history if is_fresh else request.history + loaded),
            prompt=input_of(own[0]) if is_fresh else None,
            answer=answer,
            results=results,
            rounds=len(answers),
            usage=usage,
        )


def input_of(message: Message) -> str | Sequence[UserContent]:
    """A run's input as Pydantic AI takes it."""
    [request] = model_messages([message])
    if not isinstance(request, ModelRequest):
        raise TypeError("A run starts with what a user says.")
    [part] = request.parts
    if not isinstance(part, UserPromptPart):
        raise TypeError("A run starts with what a user says.")
    return part.content
