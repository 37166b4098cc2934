"""What the server counts: asked for with `GET /stats`, started anew with `DELETE /stats`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of chat requests since the server started, or since they were reset."""

    requests: int = 0
    streamed: int = 0
    mismatches: int = 0
    """Requests that deviated from the recording they asked for."""
    broken_histories: int = 0
    """Requests whose tool calls and results did not pair."""
    errors: int = 0
    """Answers with a status of 400 or more; mismatches and broken histories are among them."""
    in_flight: int = 0
    max_in_flight: int = 0


class Counters:
    """The counts while they change; one event loop writes them."""

    def __init__(self) -> None:
        self.stats = Stats()

    def add(self, **increments: int) -> None:
        """Add to the counts with these names."""
        counts = asdict(self.stats)
        self.stats = replace(self.stats, **{n: counts[n] + more for n, more in increments.items()})

    def reset(self) -> None:
        """Start anew, with what is in flight now."""
        waiting = self.stats.in_flight
        self.stats = Stats(in_flight=waiting, max_in_flight=waiting)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request as in flight until the block ends, however it ends."""
        self.add(requests=1, in_flight=1)
        most = max(self.stats.max_in_flight, self.stats.in_flight)
        self.stats = replace(self.stats, max_in_flight=most)
        try:
            yield
        finally:
            self.add(in_flight=-1)
