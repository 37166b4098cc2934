"""What goes wrong with PostgreSQL, in this project's own errors and with what to do about it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final, NamedTuple

import psycopg

from shared.errors import (
    AgentsError,
    ConfigurationError,
    CorruptEntryError,
    StoreUnavailableError,
    UnstorableError,
)

GONE: Final = frozenset({"42P01", "42883", "3F000"})
"""Codes for a table, routine or schema that is not there."""


class _Answer(NamedTuple):
    """An error, and its message with ``{words}`` for those of the server."""

    kind: type[AgentsError]
    message: str


_LOGIN: Final = _Answer(
    ConfigurationError,
    "PostgreSQL refused these credentials ({words}); check user, password and database in "
    "AGENTS_CONVERSATION_URL, and the server's pg_hba.conf.",
)
_DATABASE: Final = _Answer(
    ConfigurationError,
    "PostgreSQL has no such database ({words}); create it, or correct the name that "
    "AGENTS_CONVERSATION_URL ends with.",
)
_NO_SLOT: Final = _Answer(
    StoreUnavailableError,
    "PostgreSQL has no connection left ({words}). Raise its max_connections, or lower "
    "AGENTS_CONVERSATION_CONNECTIONS.",
)
_LATER: Final = _Answer(StoreUnavailableError, "PostgreSQL cannot serve this now: {words}")
_LOST: Final = _Answer(
    StoreUnavailableError,
    "The tables of conversations are gone ({words}). Restore them from a backup; where there is "
    "none, the next try makes them anew.",
)
_FORMLESS: Final = _Answer(
    UnstorableError,
    "PostgreSQL has no form for a value or id ({words}).",
)
_DAMAGED: Final = _Answer(
    CorruptEntryError,
    "PostgreSQL found its own files damaged ({words}); restore them from a backup.",
)

_BY_CODE: Final[Mapping[str, _Answer]] = MappingProxyType(
    {
        **dict.fromkeys(GONE, _LOST),
        "25006": _Answer(
            StoreUnavailableError,
            "This PostgreSQL takes no writes ({words}): it is a standby, or was made read-only. "
            "Let AGENTS_CONVERSATION_URL name the primary, or all of its hosts.",
        ),
        "3D000": _DATABASE,
        "42501": _Answer(
            ConfigurationError,
            "The user at PostgreSQL lacks a right ({words}). docs/postgresql.md lists those that "
            "clients and workers need.",
        ),
        "53100": _Answer(
            StoreUnavailableError,
            "The disk of PostgreSQL is full ({words}). Free some space; trying again is safe.",
        ),
        "53300": _NO_SLOT,
        "57014": _Answer(
            StoreUnavailableError,
            "PostgreSQL ended a statement that took longer than AGENTS_CONVERSATION_TIMEOUT_S, or "
            "was told to ({words}). Trying again is safe.",
        ),
        "XX001": _DAMAGED,
        "XX002": _DAMAGED,
    }
)
_BY_CLASS: Final[Mapping[str, _Answer]] = MappingProxyType(
    {
        "08": _LATER,  # connections
        "22": _FORMLESS,
        "28": _LOGIN,
        "40": _LATER,  # conflicts with other transactions
        "53": _LATER,  # resources
        "54": _FORMLESS,
        "55": _LATER,  # locks
        "57": _LATER,  # operators
        "58": _LATER,  # the machine
    }
)
_BY_WORDS: Final[tuple[tuple[re.Pattern[str], _Answer], ...]] = (
    (
        re.compile(
            r"authentication failed|no password supplied|no pg_hba\.conf entry"
            r"|role \"[^\"]*\" (?:does not exist|is not permitted)|permission denied for database"
        ),
        _LOGIN,
    ),
    (re.compile(r"database \"[^\"]*\" does not exist"), _DATABASE),
    (
        re.compile(
            r"certificate verify failed|does not match host name|server does not support SSL"
            r"|root certificate file|could not load .*certificate"
        ),
        _Answer(
            ConfigurationError,
            "There is no trusted connection to PostgreSQL ({words}); see sslmode and sslrootcert "
            "in docs/postgresql.md.",
        ),
    ),
    (
        re.compile(r"session is (?:read-only|not read-write)"),
        _Answer(
            StoreUnavailableError,
            "None of the hosts of AGENTS_CONVERSATION_URL is a primary ({words}). Trying again is "
            "safe.",
        ),
    ),
    (re.compile(r"too many (?:clients|connections)|connection slots are reserved"), _NO_SLOT),
)
"""What a server says that lets nobody in: its codes do not get through to who connects.

The words are English unless the server was set up otherwise. Then these errors are as if it had not
answered, with its words.
"""
_UNANSWERED: Final = _Answer(
    StoreUnavailableError,
    "PostgreSQL did not answer ({words}). Check that it runs and AGENTS_CONVERSATION_URL; trying "
    "again is safe.",
)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn psycopg's errors, and those about time, into this project's."""
    try:
        yield
    except psycopg.Error as error:
        if (translated := explained(error)) is None:
            raise
        raise translated from error
    except (OSError, TimeoutError) as error:
        raise _told(_UNANSWERED, f"{type(error).__name__}: {error}") from error


def explained(error: psycopg.Error) -> AgentsError | None:
    """The error of this project for one of psycopg; None for one that only a defect explains."""
    words = _words(error)
    if error.sqlstate is not None:
        answer = _BY_CODE.get(error.sqlstate) or _BY_CLASS.get(error.sqlstate[:2])
        return None if answer is None else _told(answer, words)
    if isinstance(error, psycopg.DataError):
        return _told(_FORMLESS, words)
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return None
    for pattern, answer in _BY_WORDS:
        if pattern.search(words):
            return _told(answer, words)
    return _told(_UNANSWERED, f"{type(error).__name__}: {words}")


def _told(answer: _Answer, words: str) -> AgentsError:
    return answer.kind(answer.message.format(words=words))


def _words(error: psycopg.Error) -> str:
    """What the server said. Without details, which quote what was to be stored."""
    told = error.diag.message_primary or str(error)
    return " ".join(told.split())[:300]
