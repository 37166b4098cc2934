"""The checker of what a model was shown finds each thing that it is there for."""

import pytest

from tests.model_server.chat import Message
from tests.model_server.sight import find_sight_faults, shown

ASKED: Message = {"role": "user", "content": "mine"}
CALL: Message = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT: Message = {"role": "tool", "tool_call_id": "c", "content": "ok"}


def test_a_sound_window_has_no_faults() -> None:
    """Prompts are not counted."""
    request = {"messages": [{"role": "system", "content": "be kind"}, CALL, RESULT, ASKED]}
    assert find_sight_faults(shown(request), own_input="mine", size=3) == []


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([RESULT, ASKED], "tool result without a call"),
        ([CALL, ASKED], "unanswered call"),
        ([CALL, RESULT], "input is there 0 times"),
        ([ASKED, ASKED], "input is there 2 times"),
        ([CALL, RESULT, {"role": "user", "content": "x"}, ASKED], "4 messages up to the input"),
    ],
)
def test_each_fault_is_found(messages: list[Message], fault: str) -> None:
    """And named."""
    faults = find_sight_faults(messages, own_input="mine", size=3)
    assert len(faults) == 1
    assert fault in faults[0]
