"""Places of conversations on a command line: URLs, which should not show their passwords there."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from shared.conversation.protocol import ConversationStore
    from shared.settings import Settings

FROM_ENVIRONMENT: Final = "env:"
HINT: Final = "URL, or env:NAME to take it from the environment, as it may hold a password"


def resolve(place: str) -> str:
    """The URL that is meant; ``env:NAME`` is what the variable NAME holds."""
    if not place.startswith(FROM_ENVIRONMENT):
        return place
    name = place.removeprefix(FROM_ENVIRONMENT)
    url = os.environ.get(name)
    if not url:
        raise typer.BadParameter(f"{place}: there is no environment variable {name!r}.")
    return url


@asynccontextmanager
async def opened(place: str, settings: "Settings") -> AsyncGenerator["ConversationStore", None]:
    """The store at a place, sealed as the settings say, closed at the end.

    Raises:
        ConfigurationError: There is no such kind of store, or it cannot be opened.
    """
    from shared.backend_building import open_conversations

    store = open_conversations(resolve(place), settings)
    try:
        yield store
    finally:
        await store.aclose()


def unencrypted(settings: "Settings") -> "Settings":
    """The same settings for a place where nothing is encrypted, neither read nor written."""
    return settings.model_copy(update={"encryption_keys": None})
