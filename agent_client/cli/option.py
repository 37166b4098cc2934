"""Options that several commands have, and the values that they accept."""

from enum import StrEnum
from typing import Annotated

import typer

# The values of the project's enums, which would take a third of a second to load only to be listed
# in a help text. A test compares them.
OnBusy = StrEnum("OnBusy", "enqueue reject interrupt rollback")
Status = StrEnum("Status", "queued running completed failed cancelled")
RoleName = StrEnum("RoleName", "system user assistant tool")

_SERVICES = "Services"

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="As `submit` printed it.")]
ConversationId = Annotated[
    str, typer.Argument(metavar="CONVERSATION_ID", help="Such as web:ada:weather.")
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="One JSON object per line, with the names of the stored fields."),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Redis with runs and conversations. Default: AGENTS_REDIS_URL.",
        rich_help_panel=_SERVICES,
    ),
]
BrokerUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Celery's broker. Default: AGENTS_BROKER_URL, or the same Redis.",
        rich_help_panel=_SERVICES,
    ),
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=_SERVICES)
]
