"""Summarise what falls out of the window, once, and store it in the conversation.

A summary is a message of the conversation, written by the run that holds it at that time: behind
the run's input, under its fencing token and at a position of its own. So it is stored once, though
workers die, and nobody has to compare and set anything: whatever is appended meanwhile has another
id than those that the summary covers, stands behind them, and is shown.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent_worker.engine.protocol import EngineError
from agent_worker.saying import named
from agent_worker.window.last_messages import LastMessages
from agent_worker.window.measure import Measure
from agent_worker.window.past import FIRST_PAGE, Past
from agent_worker.window.protocol import Window, WindowRequest
from agent_worker.window.summariser import (
    Summariser,
    Summary,
    SummaryFunction,
    in_batches,
    summariser_of,
)
from agent_worker.window.token_budget import TokenBudget
from shared.codec import storable
from shared.errors import AgentDefinitionError
from shared.message import (
    Covered,
    Draft,
    Message,
    MessageKind,
    Price,
    Role,
    Usage,
    summary_draft,
)
from shared.window import longest_end, pair_safe

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent
    from pydantic_ai.models import Model

ABOVE: Final = LastMessages(40)
KEEP: Final = LastMessages(20)
REACH: Final = 1_000
"""So many messages are read back at most. Older ones that no summary covers are left out."""
SUMMARY_BYTES: Final = 32_000
"""A longer summary is cut."""
LEAST_BYTES: Final = 200
"""A summary that has no room for so much is not worth its place."""

_SHOWN: Final = (
    "[Summary of the {count} messages before this point, written in their place]\n{text}\n"
    "[End of the summary. The conversation goes on below.]"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Summarise:
    """The newest messages, and a summary of those before them.

    When the messages that no summary covers take more than `above` (a number of messages or of
    tokens, with the summary and the run's input), those that do not fit into `keep` are summarised
    together with the summary so far. Between the two lies what can be added until that happens
    again, so that it does not happen in each run, and the beginning of what the model sees stays
    the same for a while, which providers' prompt caches reward.

    `by` writes the summary: a model by its name, a Pydantic AI model or agent, or an async function
    of the summary so far (None at first) and the messages, that returns the text or a `Summary`
    with its usage. A long stretch is given to it in parts.

    The summary is stored as a message of the run (`MessageKind.SUMMARY`) right behind its input.
    What it covers stays in the conversation. Its usage counts as the run's. The model sees it as a
    user's message, which every provider takes at the beginning, and which has no more authority
    than what it was made of.

    A summary that cannot be had within `timeout_s` is done without: the window is cut to `above`,
    the log says ``summary.failed``, and the next run tries again. With `required`, the run fails
    with the code ``summary_failed`` instead.

    Raises:
        AgentDefinitionError: `by` cannot summarise; `above` and `keep` are of different kinds, or
            `keep` is more than half of `above`.
    """

    by: "SummaryFunction | AbstractAgent[Any, str] | Model | str"
    above: LastMessages | TokenBudget = ABOVE
    keep: LastMessages | TokenBudget = KEEP
    required: bool = False
    timeout_s: float = 120.0
    _summariser: Summariser = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        above, keep = _size(self.above), _size(self.keep)
        if type(self.above) is not type(self.keep) or above is None or keep is None:
            raise AgentDefinitionError(
                "Summarise takes `above` and `keep` of one kind, both LastMessages(n) or both "
                "TokenBudget(n)."
            )
        if keep * 2 > above:
            raise AgentDefinitionError(
                f"Summarise keeps {keep} and summarises above {above}: make `keep` at most half of "
                "`above`, or nearly each run would write a summary."
            )
        if self.timeout_s <= 0:
            raise AgentDefinitionError("timeout_s of Summarise has to be greater than 0.")
        object.__setattr__(self, "_summariser", summariser_of(self.by))

    @property
    def name(self) -> str:
        return "summarise"

    def first_read(self, history_size: int) -> int:
        del history_size
        size = self.above.size if isinstance(self.above, LastMessages) else None
        return (size or FIRST_PAGE) + 4  # the summary itself, and the message where its range ends

    async def build(self, past: Past, request: WindowRequest) -> Window:
        above = await self.above.measure(request.model)
        summary, behind = await _look_back(past, request.summary)
        written: Draft | None = None
        is_settled = request.summary is not None or request.has_answered
        if not is_settled and await _is_over(above, summary, behind, request):
            written, behind = await self._write(above, summary, behind, request)
        return await _shown(above, written or summary, behind, request, written)

    async def _write(
        self,
        above: Measure,
        summary: Draft | None,
        behind: Sequence[Message],
        request: WindowRequest,
    ) -> tuple[Draft | None, Sequence[Message]]:
        """A new summary and what it leaves; None and everything where there is none to be had."""
        keep = await self.keep.measure(request.model)
        safe = pair_safe(behind)
        start, kept = await keep.fitting(safe, [request.input])
        room = replace(above, room=above.room - kept)
        # A message of the past and no made-up result: those stand behind their calls.
        end = len(behind) if start == len(safe) else _place_of(safe[start], behind)
        fallen = [message for message in behind[:end] if not message.kind.is_note]
        if not fallen or not await _has_room(room, request):
            return None, behind
        started = time.monotonic()
        made = await self._summarise(summary, safe[:start], request)
        if made is None:
            return None, behind
        before = summary.covers if summary is not None else None
        covers = Covered(
            first=before.first if before is not None else fallen[0].id,
            last=fallen[-1].id,
            count=len(fallen) + (before.count if before is not None else 0),
        )
        waited_ms = round((time.monotonic() - started) * 1000)
        draft = await _fitted(
            summary_draft(made.text, covers, usage=made.usage).model_copy(
                update={"price": made.price, "waited_ms": waited_ms}
            ),
            room,
            request,
        )
        return (None, behind) if draft is None else (draft, behind[end:])

    async def _summarise(
        self, summary: Draft | None, messages: Sequence[Message], request: WindowRequest
    ) -> Summary | None:
        started, usage, prices = time.monotonic(), Usage(), list[Price | None]()
        text = summary.text if summary is not None else None
        try:
            async with asyncio.timeout(self.timeout_s):
                for batch in in_batches(messages):
                    made = await self._summariser(text, batch, request)
                    text = _begun(storable(made.text.strip()), SUMMARY_BYTES)
                    usage += made.usage
                    prices.append(made.price)
            if not text:
                raise ValueError("the summary is empty")  # noqa: TRY301
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # SystemExit too: one summariser must not end the process
            log.warning("summary.failed", error=type(error).__name__, messages=len(messages))
            if self.required:
                raise EngineError("summary_failed", f"No summary: {named(error)}") from error
            return None
        took_s = round(time.monotonic() - started, 3)
        log.info("summary.made", messages=len(messages), tokens=usage.total_tokens, took_s=took_s)
        return Summary(text, usage, _sum(prices))


def _sum(prices: Sequence[Price | None]) -> Price | None:
    """What the parts of a summary cost together; None where that is not said of each."""
    known = [price for price in prices if price is not None]
    if len(known) < len(prices) or not known:
        return None
    unpriced = next((price.unpriced for price in known if price.unpriced is not None), None)
    cost = sum((price.known_cost for price in known[1:]), known[0].known_cost)
    return known[-1].model_copy(update={"known_cost": cost, "unpriced": unpriced})


async def _look_back(
    past: Past, summary: Message | None
) -> tuple[Message | None, Sequence[Message]]:
    """The summary that holds, and the messages that it does not cover.

    Read back to the newest summary, and from there to the end of what it covers. Where that message
    is gone (removed, or trimmed), all that is left behind the range's beginning is not covered.
    """
    while True:
        read = past.messages
        place = len(read)
        found = summary
        if found is None:
            place, found = _newest_summary(read)
        if found is not None and (end := _end_of_range(found, read[:place])) is not None:
            return found, read[end:]
        if len(read) >= REACH or not await past.extend():
            return found, read


def _newest_summary(messages: Sequence[Message]) -> tuple[int, Message | None]:
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if message.kind is MessageKind.SUMMARY and message.covers is not None:
            return place, message
    return len(messages), None


def _end_of_range(summary: Message, before: Sequence[Message]) -> int | None:
    """Where the messages begin that a summary does not cover; None if that lies further back."""
    covers = summary.covers
    for place in range(len(before) - 1, -1, -1):
        if covers is not None and before[place].id in {covers.last, covers.first}:
            return place + 1
    return None


async def _is_over(
    above: Measure, summary: Draft | None, behind: Sequence[Message], request: WindowRequest
) -> bool:
    beside = [request.input, *([_as_shown(summary, request)] if summary is not None else [])]
    start, _ = await above.fitting(pair_safe(behind), beside)
    return start > 0


async def _shown(
    above: Measure,
    summary: Draft | None,
    behind: Sequence[Message],
    request: WindowRequest,
    written: Draft | None,
) -> Window:
    """The summary and the newest messages, as far as there is room. The same at each resumption."""
    fitted = None if summary is None else await _fitted(summary, above, request)
    front = [] if fitted is None else [_as_shown(fitted, request)]
    if request.asked_size is not None:
        front = front[: request.asked_size - 1]
    safe = pair_safe(behind)
    start, _ = await above.fitting(safe, [request.input, *front])
    if request.asked_size is not None:
        room = request.asked_size - 1 - len(front)
        start = max(start, longest_end(safe, [1] * len(safe), room=room))
    messages = (*front, *safe[start:])
    if above.counted is None:
        return Window(messages, summary=written)
    tokens = sum(await above.costs([*messages, request.input]))
    return Window(messages, summary=written, tokens=tokens, counted=above.counted)


async def _has_room(measure: Measure, request: WindowRequest) -> bool:
    """Whether a short summary fits beside the run's input."""
    least = summary_draft("x" * LEAST_BYTES, Covered(first="", last="", count=1))
    costs = await measure.costs([request.input, _as_shown(least, request)])
    return sum(costs) <= measure.room


async def _fitted(summary: Draft, measure: Measure, request: WindowRequest) -> Draft | None:
    """The summary, cut if it has to be, so that it fits beside the run's input; None if it cannot.

    A summary that was cut to be stored is not cut once more to be shown.
    """
    text = summary.text
    while True:
        fitted = summary if text == summary.text else summary.model_copy(update={"content": text})
        costs = await measure.costs([request.input, _as_shown(fitted, request)])
        if sum(costs) <= measure.room:
            return fitted
        size = len(text.encode())
        if size <= LEAST_BYTES:
            return None
        text = _begun(text, max(LEAST_BYTES, size * 9 // 10))


def _as_shown(summary: Draft, request: WindowRequest) -> Message:
    """A summary in the form in which a model reads it."""
    covers = summary.covers or Covered(first="", last="", count=1)
    return Message(
        id=f"summary:{covers.first}:{covers.last}",
        role=Role.USER,
        content=_SHOWN.format(count=covers.count, text=summary.text),
        created_at=request.input.created_at,  # the same whenever the run is resumed
    )


def _place_of(message: Message, messages: Sequence[Message]) -> int:
    return next(place for place, one in enumerate(messages) if one is message)


def _size(measure: LastMessages | TokenBudget) -> int | None:
    return measure.size if isinstance(measure, LastMessages) else measure.tokens


def _begun(text: str, limit: int) -> str:
    """The beginning of a text: so many bytes at most, no character cut in two."""
    return text.encode()[:limit].decode(errors="ignore")
