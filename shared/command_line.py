"""What the two command lines have in common: options, and `--version`."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

import typer

SERVICES: Final = "Services"
"""The panel of a help text with options about where things are."""

AsJson = Annotated[
    bool,
    typer.Option("--json", help="One JSON object per line, with the names of the stored fields."),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Redis with runs and conversations. Default: AGENTS_REDIS_URL.",
        rich_help_panel=SERVICES,
    ),
]
BrokerUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Celery's broker. Default: AGENTS_BROKER_URL, or the same Redis.",
        rich_help_panel=SERVICES,
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=SERVICES)
]


def version_printer(program: str) -> Callable[[bool], None]:
    """The callback of a `--version` option: print the version and leave."""

    def print_version(is_asked_for: bool) -> None:  # noqa: FBT001 - typer passes the option's value
        if is_asked_for:
            try:
                number = version("celery-agents")
            except PackageNotFoundError:
                number = "(not installed, run from its source)"
            typer.echo(f"{program} {number}")
            raise typer.Exit

    return print_version


def new_program(*, needs_command: bool = True) -> typer.Typer:
    """A program without commands yet, or a group of them that does something by itself, too."""
    return typer.Typer(
        no_args_is_help=needs_command,
        invoke_without_command=not needs_command,
        rich_markup_mode="rich",
        # A traceback is for defects and --debug, and locals could hold a password.
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
