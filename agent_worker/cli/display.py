"""What the worker's commands show: what is served and where, never a password."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from agent_worker.definition import AgentDefinition
    from shared.run import AgentInfo, WorkerInfo
    from shared.settings import Settings

NO_WORKER: Final = "No worker is alive; start one: agent-worker start MODULE"


def show_ready(
    settings: "Settings",
    definitions: Sequence["AgentDefinition"],
    worker_id: str | None = None,
    *,
    is_one_of_many: bool = False,
) -> None:
    """Say what is served and where: a panel on a terminal, a log entry elsewhere.

    One of many processes on a terminal has a log entry, too: they would fill it with panels.
    """
    from agent_worker.announcement import queues_of

    info = announced(settings, definitions, worker_id)
    queues = queues_of(definitions, settings)
    facts = {
        "worker": worker_id or f"process {info.pid} on {info.hostname}",
        "concurrency": str(settings.concurrency),
        "redis": masked_url(settings.redis_url.get_secret_value()),
        **_conversations_of(settings),
        "broker": masked_url(settings.effective_broker_url),
        "queues": ", ".join(queues),
    }
    if sys.stderr.isatty() and settings.log_format != "json" and not is_one_of_many:
        _print_panel(facts, info.agents)
    else:
        _log_entry(facts, info.agents)


def _conversations_of(settings: "Settings") -> dict[str, str]:
    from shared.conversation.shown_url import shown_url

    url = settings.conversation_url
    return {} if url is None else {"conversations": shown_url(url.get_secret_value())}


def announced(
    settings: "Settings", definitions: Sequence["AgentDefinition"], worker_id: str | None = None
) -> "WorkerInfo":
    """What a worker in this process would announce; nothing is sent."""
    from agent_worker.announcement import announce

    now = datetime.now(UTC)
    return announce(worker_id or "here", definitions, settings, started_at=now, active_runs=0)


def print_agents(found: Sequence["AgentInfo"]) -> None:
    """A table on a terminal, tab-separated columns elsewhere."""
    if not found:
        typer.echo(NO_WORKER, err=True)
    elif sys.stdout.isatty():
        from rich.console import Console

        Console().print(_agent_table(found))
    else:
        for agent in found:
            cells = (agent.name, agent.model or "", agent.queue, ", ".join(agent.tools))
            typer.echo("\t".join(map(printable, cells)))


def masked_url(url: str) -> str:
    """A URL that may be shown: without its password, wherever in it that stands."""
    # Up to the last @, since a password that was not quoted may hold one, or a slash.
    without = re.sub(r"://([^:@/]*):.*@", r"://\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|secret|token)[^=&]*=)[^&]*", r"\1***", without)


def printable(text: str) -> str:
    """The text without anything that a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text)


def _log_entry(facts: dict[str, str], served: Sequence["AgentInfo"]) -> None:
    import structlog

    agents = [agent.model_dump(mode="json", exclude_none=True) for agent in served]
    structlog.get_logger().info("worker.serving", **facts, agents=agents)


def _print_panel(facts: dict[str, str], served: Sequence["AgentInfo"]) -> None:
    from rich.box import ROUNDED
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, fact in facts.items():
        grid.add_row(name, Text(printable(fact)))
    content = Group(grid, Text(), _agent_table(served))
    Console(stderr=True).print(
        Panel(
            content,
            title=Text("agent-worker is ready"),
            title_align="left",
            border_style="green",
            box=ROUNDED,
            expand=False,
        )
    )


def _agent_table(found: Sequence["AgentInfo"]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    columns = {
        "agent": [agent.name for agent in found],
        "model": [agent.model or "" for agent in found],
        "queue": [agent.queue for agent in found],
        "tools": [", ".join(agent.tools) for agent in found],
    }
    filled = {title: cells for title, cells in columns.items() if any(cells)}
    for title in filled:
        table.add_column(title, overflow="fold")
    for row in zip(*filled.values(), strict=True):
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
