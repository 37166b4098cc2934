"""Faults that the stand-in has when it is told to."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What goes wrong with a request."""

    LIMITED = "limited"
    """Too many requests; nothing is done."""
    BROKEN = "broken"
    """Status 500; nothing is done."""
    OVERLOADED = "overloaded"
    """Status 503, though it is done."""
    LOST_REQUEST = "lost_request"
    """No answer; nothing is done."""
    LOST_ANSWER = "lost_answer"
    """No answer, though it is done."""
    ENDLESS = "endless"
    """An answer of which there is always a little more, though it is done."""


@dataclass(slots=True)
class Faults:
    """Which requests go wrong, and all requests so far. For tests in other threads."""

    requests: list[str] = field(default_factory=list)
    """Method and route of each, such as ``POST /items``."""
    before: Callable[[str], None] | None = None
    """Called with each request before it is done."""
    _waiting: list[tuple[str, int, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, request: str, fault: Fault, *, skip: int = 0, times: int = 1) -> None:
        """Let the next `times` of these requests go wrong, after `skip` of them went well."""
        with self._lock:
            self._waiting += [(request, skip, fault)] + [(request, 0, fault)] * (times - 1)

    def clear(self) -> None:
        """Forget what was planned and what was counted."""
        with self._lock:
            self._waiting.clear()
            self.requests.clear()
        self.before = None

    def count(self, request: str) -> int:
        """How many of these there were."""
        return self.requests.count(request)

    def arrive(self, request: str) -> Fault | None:
        """Note a request, and say what goes wrong with it."""
        if self.before is not None:
            self.before(request)
        with self._lock:
            self.requests.append(request)
            for place, (planned, skip, fault) in enumerate(self._waiting):
                if planned == request:
                    if skip:
                        self._waiting[place] = (planned, skip - 1, fault)
                        return None
                    del self._waiting[place]
                    return fault
        return None
