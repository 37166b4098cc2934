"""What a model sees of a conversation: the newest messages, never a broken history.

Calls and results are paired by where they stand, since call ids are not unique: a result belongs to
the assistant's message before it, with nothing but results in between.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from shared.message import (
    Draft,
    Message,
    Role,
    ToolCall,
    ToolOutcome,
    tool_result_draft,
)

NO_RESULT: Final = "The run was stopped before this tool ended; there is no result."
"""What a model reads in the place of a result that was never stored."""

Entry = TypeVar("Entry", bound=Draft)


def pair_safe(messages: Sequence[Entry]) -> list[Entry]:
    """The messages that a model may see, in their order, as every provider accepts them.

    Each call of an assistant's message is followed by its result before anything else comes: a
    result without its call is left out, a call without a result gets one that says so (outcome
    ``cancelled``). Notes (errors and summaries) are left out as well. A history that is in order
    comes back equal.
    """
    return list(_paired(messages))


def build_window(earlier: Sequence[Message], *, size: int) -> tuple[Message, ...]:
    """What a run sees of the messages before it: the newest ones, pair-safe, oldest first.

    The run's own input is the last of the `size` messages (1 or more) that a model sees when the
    run starts, so at most ``size - 1`` are returned; the run's messages follow them, uncut. Where
    the cut would fall between a call and its results, all of these are left out.
    """
    safe = pair_safe(earlier)
    return tuple(safe[longest_end(safe, [1] * len(safe), room=size - 1) :])


def longest_end(messages: Sequence[Draft], costs: Sequence[int], *, room: int) -> int:
    """Where the longest end begins that costs `room` at most and can stand at a window's start.

    `messages` are pair-safe, `costs` are theirs, each 0 or more. An end that would begin with a
    result, whose call was cut off, begins behind that call's last result instead.
    """
    start, left = len(messages), room
    while start > 0 and costs[start - 1] <= left:
        start -= 1
        left -= costs[start]
    while start < len(messages) and messages[start].role is Role.TOOL:
        start += 1
    return start


def _paired(messages: Sequence[Entry]) -> Iterator[Entry]:
    caller: Entry | None = None
    unanswered: dict[int, ToolCall] = {}
    for message in messages:
        if message.kind.is_note:
            continue
        if message.role is Role.TOOL:
            place = _find_call(unanswered, message)
            if place is None:
                continue
            del unanswered[place]
        else:
            yield from _missing_results(caller, unanswered)
            caller, unanswered = message, dict(enumerate(message.tool_calls))
        yield message
    yield from _missing_results(caller, unanswered)


def _find_call(calls: Mapping[int, ToolCall], result: Draft) -> int | None:
    """The place of the call that a result answers. Where calls share an id, the name decides."""
    call_id = result.tool_call_id or ""
    places = [place for place, call in calls.items() if call.id == call_id]
    named = (place for place in places if calls[place].name == result.tool_name)
    return next(named, places[0] if places else None)


def _missing_results(caller: Entry | None, calls: Mapping[int, ToolCall]) -> Iterator[Entry]:
    """A result for each call that has none, in the form of the message that made the calls."""
    if caller is None:
        return
    for place, call in calls.items():
        result = tool_result_draft(call, NO_RESULT, outcome=ToolOutcome.CANCELLED)
        fields: dict[str, Any] = dict(result)
        if isinstance(caller, Message):
            fields |= {"id": f"{caller.id}.{place}", "cursor": None}
        yield caller.model_copy(update=fields)
