"""What workers log only when something is wrong with them, or with what they were told."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

DEFECTS: Final = frozenset(
    {
        *("run.broken", "run.unfinished", "history.unclosed", "history.rewritten"),
        *("engine.broken", "engine.stuck", "engine.unclean", "entry.unreadable"),
    }
)


class LogWatch:
    """Keeps the names of such events, and drops everything else."""

    def __init__(self) -> None:
        self._seen: list[dict[str, Any]] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Listen to what is logged."""
        before = structlog.get_config()
        structlog.configure(
            processors=[structlog.processors.format_exc_info, self._keep],
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.configure(**before)

    def keep_exception(self, _: object, context: dict[str, Any]) -> None:
        """What no task could raise; an event loop would only log it."""
        self._seen.append(context)

    def check(self) -> None:
        """Fail if something of that kind was logged since the last time."""
        seen, self._seen = self._seen, []
        assert not seen, seen

    def _keep(self, logger: object, method: str, event: Any) -> Any:
        if event["event"] in DEFECTS:
            self._seen.append(dict(event))
        raise structlog.DropEvent
