"""What a PostgreSQL server's own settings make unsafe: a look at them when a worker starts."""

from typing import Final

import structlog

from shared.errors import AgentsError
from shared.postgres_client import PostgresClient
from shared.risk import Risk

log = structlog.get_logger()

_ASK: Final = """
    SELECT current_setting('fsync'), current_setting('full_page_writes'),
        current_setting('synchronous_commit')
"""
NO_FSYNC: Final = Risk(
    "no_fsync",
    "When its machine loses power PostgreSQL may lose every conversation; set fsync on.",
)
TORN_PAGES: Final = Risk(
    "torn_pages",
    "When its machine loses power PostgreSQL may damage what it wrote; set full_page_writes on.",
)
ASYNCHRONOUS_COMMIT: Final = Risk(
    "asynchronous_commit",
    "A crash of PostgreSQL forgets the messages of its last second; set synchronous_commit on.",
)


async def find_risks(client: PostgresClient) -> list[Risk]:
    """What is unsafe about the server. Nothing, where it does not tell."""
    try:
        [(fsync, full_pages, commit)] = await client.fetch(_ASK)
    except AgentsError as error:
        log.debug("store.unchecked", error=type(error).__name__, reason=str(error))
        return []
    risks = []
    if fsync == "off":
        risks.append(NO_FSYNC)
    if full_pages == "off":
        risks.append(TORN_PAGES)
    if commit == "off":
        risks.append(ASYNCHRONOUS_COMMIT)
    return risks
