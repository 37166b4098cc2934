"""Settings and errors of a command: one clear line and an exit code, never a traceback unasked."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

import typer

from agent_worker.cli.display import printable

DESCRIPTION: Final = """\
Exit codes:
  0  fine; a worker that was told to stop has handed its runs over
  1  the worker broke, or `ping` found none alive
  2  wrong usage, a wrong setting, or a module that holds no agent to serve
  4  Redis does not answer, or PostgreSQL

Settings come from the environment: AGENTS_REDIS_URL, AGENTS_BROKER_URL, others."""


class ExitCode(IntEnum):
    """See `DESCRIPTION`, which is part of every command's help."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 4


@contextmanager
def errors_reported(*, debug: bool) -> Iterator[None]:
    """Turn every error that this project raises on purpose into a line and an exit code."""
    from shared.errors import AgentsError, ConfigurationError, RequestError, UnavailableError

    try:
        yield
    except AgentsError as error:
        if debug:
            typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        label = typer.style("Error:", fg="red", bold=True)
        typer.echo(f"{label} {printable(str(error))}", err=True)
        code = ExitCode.FAILED
        if isinstance(error, ConfigurationError | RequestError):
            code = ExitCode.USAGE
        elif isinstance(error, UnavailableError):
            code = ExitCode.UNAVAILABLE
        raise typer.Exit(code) from error
