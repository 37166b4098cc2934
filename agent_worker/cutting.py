"""Cutting: the beginning and the end of a text that is too long, and what is missing between them.

Done in one place, since what is stored and what a model is shown are cut by the same rule.
"""

from typing import Final

NOT_KEPT: Final = (
    "\n\n[Cut: {left_out} of {size} bytes are missing here, since a result may have {limit} bytes. "
    "What you see is its beginning and its end. If you need the rest, ask for a part of it.]\n\n"
)
"""For a result that is stored without its middle."""
NOT_SHOWN: Final = (
    "\n\n[Shortened: {left_out} of {size} bytes are not shown here, since {limit} are shown of a "
    "result. What you see is its beginning and its end. If you need the rest, ask for a part of "
    "it.]\n\n"
)
"""For a result that is stored whole and shown without its middle."""


def cut(text: str, limit: int, marker: str = NOT_KEPT) -> str:
    """The beginning and the end of a text that takes more than `limit` bytes as UTF-8.

    What is missing is told between them, in the words of `marker`, within the limit. No character
    is cut in two. Equal input gives equal output, so a run that is taken over shows the same.
    """
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return text
    # The longest that the marker can become, so that the whole keeps the limit.
    room = limit - len(marker.format(left_out=len(data), size=len(data), limit=limit).encode())
    head = data[: max(0, room * 2 // 3)].decode(errors="ignore")
    tail = data[len(data) - max(0, room - room * 2 // 3) :].decode(errors="ignore")
    left_out = len(data) - len(head.encode()) - len(tail.encode())
    return head + marker.format(left_out=left_out, size=len(data), limit=limit) + tail
