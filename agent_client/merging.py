"""Merging: the messages and the events of a run as one sequence that can be resumed anywhere.

Two logs with clocks of their own become one, in an order that means something: `running` before
the messages of the run, the text deltas of a message between its predecessor and itself, the end
last. Which of two entries comes first depends on these two alone. So whoever resumes at any cursor
sees the rest in the order in which it would have come.
"""

from collections import deque
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Final

from agent_client.session import Session
from agent_client.watching import Hints, RunView, persistently
from shared.errors import InvalidCursorError
from shared.event import DeltaEvent, MessageEvent, RunEvent, StatusEvent
from shared.message import Message
from shared.run import Run, RunStatus

_SEPARATOR: Final = "|"
_END: Final = "end"
"""Stands for the event cursor behind the last event, which may come from no log."""


def watch_events(
    session: Session, run_id: str, *, after: str | None
) -> AsyncGenerator[RunEvent, None]:
    """Everything that happens in a run, behind `after`, until its end; see `AsyncRun.events`.

    Raises:
        InvalidCursorError: `after` is no cursor of such an event. Raised at once.
    """
    history_cursor, event_cursor = parse_cursor(after)
    view = RunView(session, run_id, history_cursor=history_cursor, event_cursor=event_cursor)
    merger = Merger(run_id, history_cursor, event_cursor)
    return persistently(view.patience, partial(_events, view, merger))


def format_cursor(history_cursor: str | None, event_cursor: str | None) -> str:
    """A place in both logs; None is the beginning."""
    return f"{history_cursor or ''}{_SEPARATOR}{event_cursor or ''}"


def parse_cursor(cursor: str | None) -> tuple[str | None, str | None]:
    """The two cursors that `format_cursor` was given.

    Raises:
        InvalidCursorError: It is not such a cursor.
    """
    if cursor is None:
        return None, None
    # From the right, since a history may be kept in a store whose cursors hold the separator.
    history_cursor, separator, event_cursor = cursor.rpartition(_SEPARATOR)
    if not separator:
        raise InvalidCursorError(
            f"{cursor[:60]!r} is not a cursor of `events`; pass the `cursor` of an event that it "
            "yielded (that of a message belongs to `watch`)."
        )
    return history_cursor or None, event_cursor or None


async def _events(view: RunView, merger: "Merger") -> AsyncGenerator[RunEvent, None]:
    if merger.is_over:
        return
    async with Hints(view) as hints:
        has_ended = False
        while not has_ended:
            has_ended = view.has_ended
            # In this order: what was published before a message was stored is then read as well.
            merger.messages += await view.read_messages()
            merger.events += await view.read_events()
            for event in merger.merge(is_last=has_ended):
                yield event
            if not (view.has_ended or merger.events):
                await hints.wait()
        yield merger.last(view.final or _end_of(await view.refresh()))


def _end_of(run: Run) -> StatusEvent:
    """The event of a run's end, from its record: the log of events is kept for minutes only."""
    return StatusEvent(
        run_id=run.id,
        status=run.status,
        worker_id=run.worker_id,
        attempt=run.attempts,
        rolled_back=run.is_rolled_back,
        created_at=run.finished_at or run.created_at,
    )


class Merger:
    """Puts what was read from the two logs of a run in order, and gives each event its cursor.

    Attributes:
        messages: Read and not merged yet; the caller adds to it.
        events: Likewise. Not empty after a `merge`: look again at once.
        is_over: Whether the cursor to start from was that of the end.
    """

    def __init__(self, run_id: str, history_cursor: str | None, event_cursor: str | None) -> None:
        self._run_id = run_id
        self._history_cursor = history_cursor
        self._event_cursor = event_cursor
        self._next_position = 0 if history_cursor is None else None
        """Of the message to come; None where a resumed watcher cannot know it yet."""
        self._doubted: DeltaEvent | None = None
        self.is_over = event_cursor == _END
        self.messages: deque[Message] = deque()
        self.events: deque[StatusEvent | DeltaEvent] = deque()

    def merge(self, *, is_last: bool) -> Iterator[RunEvent]:
        """Take out what can be put in order by now; everything if nothing more will come."""
        while self.events:
            event = self.events[0]
            while self.messages and _is_before(self.messages[0], event):
                yield self._take_message()
            if isinstance(event, DeltaEvent) and not (is_last or self._is_next(event)):
                return
            yield self._take_event()
        while self.messages:
            yield self._take_message()

    def last(self, event: StatusEvent) -> StatusEvent:
        """The event of the end, with a cursor behind which there is nothing."""
        return event.model_copy(update={"cursor": format_cursor(self._history_cursor, _END)})

    def _is_next(self, delta: DeltaEvent) -> bool:
        """Whether all messages before the one that `delta` belongs to were merged.

        One may have been stored between the two reads. Then the next look finds it; if not, it
        was cleared from the history, and waiting for it would be for ever.
        """
        if self._next_position is not None and delta.position <= self._next_position:
            return True
        if self._doubted is not delta:
            self._doubted = delta
            return False
        self._next_position = delta.position
        return True

    def _take_message(self) -> MessageEvent:
        message = self.messages.popleft()
        self._history_cursor = message.cursor
        self._next_position = message.position + 1
        return MessageEvent(run_id=self._run_id, message=message, cursor=self._cursor())

    def _take_event(self) -> StatusEvent | DeltaEvent:
        event = self.events.popleft()
        self._event_cursor = event.cursor
        if isinstance(event, StatusEvent) and event.rolled_back:
            self.messages.clear()
            self._next_position = 0
        return event.model_copy(update={"cursor": self._cursor()})

    def _cursor(self) -> str:
        return format_cursor(self._history_cursor, self._event_cursor)


def _is_before(message: Message, event: StatusEvent | DeltaEvent) -> bool:
    """Whether a message comes before an event. Looks at these two only; see the module."""
    if isinstance(event, DeltaEvent):
        return message.position < event.position
    if event.status is RunStatus.QUEUED and event.attempt == 0:
        return False
    if event.status is RunStatus.RUNNING and event.attempt <= 1:
        return False
    # Times of two clocks, so only a guide. What must be in order is, by the rules above.
    return message.created_at < event.created_at
