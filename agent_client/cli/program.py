"""The program: its commands and its entry point."""

import io
import sys
from typing import Annotated

import typer

from agent_client.cli import conversations, managed, runs, snapshots, transfers
from agent_client.cli.exit_code import DESCRIPTION
from shared.command_line import new_program, version_printer

app = new_program()
for command in (
    runs.submit,
    runs.watch,
    conversations.history,
    runs.runs,
    runs.run,
    runs.cancel,
    conversations.agents,
):
    app.command(epilog=DESCRIPTION)(command)
app.command(epilog=DESCRIPTION)(transfers.migrate)
app.command(epilog=DESCRIPTION)(transfers.export)
app.command("import", epilog=DESCRIPTION)(transfers.import_)
app.add_typer(snapshots.app, name="snapshot")

managing = new_program(needs_command=False)
app.add_typer(managing, name="conversations")
managing.callback(epilog=DESCRIPTION)(conversations.conversations)
managing.command("list", epilog=DESCRIPTION)(managed.list_)
for verb in (
    managed.show,
    managed.deactivate,
    managed.reset,
    managed.fork,
    managed.archive,
    managed.purge,
    managed.tidy,
):
    managing.command(epilog=DESCRIPTION)(verb)


@app.callback(epilog=DESCRIPTION)
def agent_client(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=version_printer("agent-client"),
            is_eager=True,
            help="Print the version.",
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
