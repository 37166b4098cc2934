"""Logging: one stream of events, JSON for machines, readable lines on a terminal.

An entry is an event name and keys, never a built sentence. The ids of the run being executed
(`run_id`, `conversation_id`, `worker_id`, `fencing_token`) are bound once with structlog's
contextvars and appear in each entry. Message bodies and secrets are never logged.
"""

import logging
import sys
from typing import Any, Final, TextIO

import structlog
from structlog.types import Processor

from shared.settings import Settings

_QUIET: Final = ("celery", "kombu", "httpx", "httpx2", "openai", "asyncio")
"""Libraries whose informational entries would drown ours; their warnings stay."""


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's entries to `stream` (standard error).

    Called by the programs of this project; a program that embeds the client keeps its own set-up.
    """
    target = stream if stream is not None else sys.stderr
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not target.isatty()
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    _configure_structlog(shared, level)
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_foreign_logger],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(as_json=as_json, colors=target.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _configure_structlog(shared: list[Processor], level: int) -> None:
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _renderers(*, as_json: bool, colors: bool) -> list[Processor]:
    if as_json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Where rich is installed, structlog would print each frame's locals: passwords and messages.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]


def _name_foreign_logger(
    _logger: Any, _method: str, entry: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Say which library an entry comes from; ours need no such mark."""
    record = entry.get("_record")
    if isinstance(record, logging.LogRecord):
        entry["logger"] = record.name
    return entry
