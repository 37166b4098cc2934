"""What an exception says. It may be anybody's, and saying it may fail or take no end."""

from typing import Final

MAX_LENGTH: Final = 10_000
"""Characters; whoever wants fewer cuts again."""


def said_by(error: BaseException) -> str:
    """The text of an exception; a note where it cannot be told. May be empty."""
    try:
        return str(error)[:MAX_LENGTH]
    except BaseException as failure:  # noqa: BLE001  code of a tool, which may raise anything
        return f"(its text cannot be told: {type(failure).__name__})"


def named(error: BaseException) -> str:
    """An exception as its kind and what it says."""
    said = said_by(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
