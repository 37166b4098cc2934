"""The connection of a command: its settings, its client, and what becomes of errors and Ctrl-C."""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from agent_client.cli.exit_code import ExitCode, of_error

if TYPE_CHECKING:
    from typing import TextIO

    from agent_client.client import AsyncAgentClient
    from shared.settings import Settings

ClientFactory = Callable[["Settings"], "AsyncAgentClient"]
"""Makes the client of a command. A test passes one in as the `obj` of the typer context."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How one command reaches the system; `context.obj` is a `ClientFactory` or None."""

    context: typer.Context
    redis_url: str | None = None
    broker_url: str | None = None
    debug: bool = False

    def run(self, work: Callable[["AsyncAgentClient"], Awaitable[ExitCode]]) -> None:
        """Do a command's work with a client, then leave with its exit code."""
        from shared.errors import AgentsError

        try:
            code = asyncio.run(self._work(work))
        except AgentsError as error:
            code = of_error(error)
            report(error, debug=self.debug)
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        raise typer.Exit(code)

    async def _work(self, work: Callable[["AsyncAgentClient"], Awaitable[ExitCode]]) -> ExitCode:
        from shared.log import configure_logging
        from shared.settings import read_settings

        settings = read_settings(
            redis_url=self.redis_url or None, broker_url=self.broker_url or None
        )
        configure_logging(settings, _current_stderr())
        open_client: ClientFactory = self.context.obj or _open_client
        async with open_client(settings) as client:
            return await work(client)


def report(error: BaseException, *, debug: bool) -> None:
    """Say on standard error what went wrong, with the traceback if that is asked for."""
    from agent_client.live_view.text import clean

    if debug:
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    typer.echo(f"{typer.style('Error:', fg='red', bold=True)} {clean(str(error))}", err=True)


def _open_client(settings: "Settings") -> "AsyncAgentClient":
    from agent_client.client import AsyncAgentClient

    return AsyncAgentClient(settings)


def _current_stderr() -> "TextIO":
    """A stream to whatever standard error is at the time of a write.

    A live view puts itself in its place, so that log entries appear above it and not across it.
    """
    from typing import cast

    return cast("TextIO", _CurrentStderr())


class _CurrentStderr:
    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()
