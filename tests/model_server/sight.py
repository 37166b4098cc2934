"""What a model may be shown in a run, whatever happened to the conversation before."""

from collections.abc import Sequence
from typing import Any

from tests.model_server.chat import Message, text_of
from tests.model_server.pairing import find_refusals

_PROMPTS = ("system", "developer")


def shown(request: dict[str, Any]) -> list[Message]:
    """The messages of a chat request, without the agent's own prompts."""
    return [message for message in request["messages"] if message["role"] not in _PROMPTS]


def find_sight_faults(messages: Sequence[Message], *, own_input: str, size: int) -> list[str]:
    """Return what is wrong with what a model was shown, in words; empty if nothing is.

    Each call has its result and each result its call, so no window begins inside of a pair; the
    run's own input is there, once; and up to it there are `size` messages at most. `own_input` has
    to be different from what any other run was asked.
    """
    faults = [str(fault) for fault in find_refusals(messages)]
    places = [
        place
        for place, message in enumerate(messages)
        if message["role"] == "user" and text_of(message) == own_input
    ]
    if len(places) != 1:
        faults.append(f"the run's own input is there {len(places)} times")
    elif places[0] >= size:
        faults.append(f"{places[0] + 1} messages up to the input, and {size} were asked for")
    return faults
