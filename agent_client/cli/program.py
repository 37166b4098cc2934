"""The program: its commands and its entry point."""

import io
import sys
from typing import Annotated

import typer

from agent_client.cli import conversations, runs
from agent_client.cli.exit_code import DESCRIPTION

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    # A traceback is for defects and --debug, and locals could hold a password.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    runs.submit,
    runs.watch,
    conversations.history,
    runs.runs,
    runs.cancel,
    conversations.conversations,
    conversations.agents,
):
    app.command(epilog=DESCRIPTION)(command)


def _print_version(is_asked_for: bool) -> None:  # noqa: FBT001 - typer passes the option's value
    if is_asked_for:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("celery-agents")
        except PackageNotFoundError:
            number = "(not installed, run from its source)"
        typer.echo(f"agent-client {number}")
        raise typer.Exit


@app.callback(epilog=DESCRIPTION)
def agent_client(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Submit agent runs, watch them live, find them again, stop them.

    Each run is named by its id, which any process may use from then on.

    Examples:
      agent-client submit researcher "What is new in Redis 8?"
      agent-client runs --status running
      agent-client watch run-3-0192f0c1a2b37d4e5f60718293a4b5c6
      agent-client history web:ada:weather --json
    """


def main() -> None:
    """Entry point of the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that has no ✓ shows a question mark; it is no reason to stop watching.
            stream.reconfigure(errors="replace")
    app(prog_name="agent-client")
