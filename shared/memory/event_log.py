"""The short-lived events of runs, in memory."""

from itertools import count, islice

from shared.event import DeltaEvent, StatusEvent
from shared.memory.clock import Clock
from shared.memory.cursor import format_cursor, parse_cursor
from shared.memory.expiry import Expiry

Event = StatusEvent | DeltaEvent


class EventLog:
    """One list of events for each run, forgotten `ttl_s` after its last event."""

    def __init__(self, ttl_s: float, clock: Clock) -> None:
        self._numbers = count(1)
        self._events: dict[str, dict[int, Event]] = {}
        self._expiry: Expiry[str] = Expiry(ttl_s, clock)

    def append(self, event: Event) -> None:
        """Add an event to the log of its run."""
        number = next(self._numbers)
        stored = event.model_copy(update={"cursor": format_cursor(number)})
        self._events.setdefault(event.run_id, {})[number] = stored
        self._expiry.schedule(event.run_id)

    def read(self, run_id: str, *, after: str | None, limit: int) -> list[Event]:
        """At most `limit` events behind the cursor, oldest first.

        Raises:
            InvalidCursorError: `after` is not a cursor.
        """
        last_seen = parse_cursor(after) if after is not None else 0
        self.forget_expired()
        log = self._events.get(run_id, {})
        return list(islice((event for number, event in log.items() if number > last_seen), limit))

    def forget(self, run_id: str) -> None:
        """Drop the log of a run."""
        self._events.pop(run_id, None)
        self._expiry.cancel(run_id)

    def forget_expired(self) -> None:
        """Drop the logs whose time has come."""
        for run_id in self._expiry.take_due():
            del self._events[run_id]
