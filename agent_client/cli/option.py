"""Options that several commands have, and the values that they accept."""

from enum import StrEnum
from typing import Annotated

import typer

# The values of the project's enums, which would take a third of a second to load only to be listed
# in a help text. A test compares them.
OnBusy = StrEnum("OnBusy", "enqueue reject interrupt rollback")
Status = StrEnum("Status", "queued running completed failed cancelled")
RoleName = StrEnum("RoleName", "system user assistant tool")

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="As `submit` printed it.")]
ConversationId = Annotated[
    str, typer.Argument(metavar="CONVERSATION_ID", help="Such as web:ada:weather.")
]
