"""The connection to Redis: time-outs, errors, scripts."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from shared.errors import (
    ConfigurationError,
    CorruptEntryError,
    InvalidCursorError,
    StoreUnavailableError,
)
from shared.settings import Settings

COMMAND_CONNECTIONS: Final = 32
"""Connections for commands of one process. A caller that finds none free waits for one; redis-py's
own pool would raise at its 101st connection instead."""

log = structlog.get_logger()

_CURSOR: Final = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_LARGEST: Final = 2**64 - 1
"""The largest number in an entry's id."""

_NO_SUCH_DATABASE: Final = "DB index is out of range"

_TEMPORARY: Final = (
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_TEMPORARY_CODE: Final = re.compile(
    r"""(?:^|[-"'])"""
    r"(?:OOM|MISCONF|BUSY|LOADING|READONLY|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|TRYAGAIN) "
)
"""What a server says that cannot serve a command now and may be able to later.

redis-py has classes for some of the codes and then leaves the code out of the text. For a script,
Redis 6 gives the code somewhere in the text of another error; for a pipeline, redis-py does.
"""

_DAMAGED: Final = re.compile(
    r"WRONGTYPE|(?:hash )?value is not an? (?:integer|float|valid float)"
    r"|command arguments must be strings or integers"
    r"|attempt to (?:compare|perform arithmetic on|concatenate|index)[^:]*"
)
"""What a server says, or one of the scripts, that comes upon something nobody here has written."""


def connect(settings: Settings) -> Redis:
    """A client for commands. Nothing connects before its first command.

    Raises:
        ConfigurationError: The URL is not one of Redis.
    """
    return Redis.from_pool(_pool(settings, settings.redis_timeout_s, COMMAND_CONNECTIONS))


def connect_for_listening(settings: Settings) -> Redis:
    """A client for one long-lived pub/sub connection, whose reads wait for as long as it takes."""
    return Redis.from_pool(_pool(settings, None, 2))


def _pool(settings: Settings, read_timeout_s: float | None, size: int) -> BlockingConnectionPool:
    try:
        return BlockingConnectionPool.from_url(
            settings.redis_url.get_secret_value(),
            max_connections=size,
            timeout=settings.redis_timeout_s,
            socket_connect_timeout=settings.redis_timeout_s,
            # redis-py would cut a read after 5 s by itself, whatever it waits for.
            socket_timeout=read_timeout_s,
            socket_keepalive=True,
            # A retry inside the library would repeat a script whose answer was lost without anybody
            # knowing; the callers here know which of theirs may be repeated.
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            # What is not UTF-8 is not ours. This way it makes one entry unreadable, while "strict"
            # would fail the whole answer that the entry is a part of.
            encoding_errors="surrogateescape",
        )
    except ValueError:
        # Neither quoted nor chained: a password with a slash in it is taken for the port, and said.
        raise ConfigurationError(
            "AGENTS_REDIS_URL is no URL of Redis; it looks like redis://host:6379/0. In a "
            "password, write characters like / ? # @ as %2F %3F %23 %40."
        ) from None


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn redis-py's errors into this project's."""
    try:
        yield
    except (AuthenticationError, NoPermissionError) as error:
        raise ConfigurationError(
            f"Redis refused these credentials ({error}); check user and password in "
            "AGENTS_REDIS_URL and the user's ACL."
        ) from error
    except ResponseError as error:
        if str(error) == _NO_SUCH_DATABASE:
            raise ConfigurationError(
                "Redis has no database of this number; correct the one that AGENTS_REDIS_URL "
                "ends with, /0 if in doubt."
            ) from error
        if (damage := damage_of(error)) is not None:
            raise damage from error
        if not isinstance(error, _TEMPORARY) and not _TEMPORARY_CODE.search(str(error)):
            raise
        raise StoreUnavailableError(f"Redis cannot serve this now: {error}") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailableError(
            f"Redis did not answer ({type(error).__name__}: {error}). Check that it runs and "
            "AGENTS_REDIS_URL; trying again is safe."
        ) from error


def damage_of(error: object) -> CorruptEntryError | None:
    """The error for an answer that says that a key holds something else than it should, if so.

    The server's words are left out but for their reason: for a pipeline they quote the command.
    """
    reason = _DAMAGED.search(str(error)) if isinstance(error, ResponseError) else None
    if reason is None:
        return None
    return CorruptEntryError(
        f"A key of this project holds something that it did not write ({reason[0].strip()}). Find "
        "out who else writes to this Redis, or give this system an AGENTS_KEY_PREFIX of its own."
    )


def checked_answers(answers: Sequence[Any]) -> list[Any]:
    """The answers of a pipeline, with None for those about damaged keys, which are reported.

    Raises:
        StoreUnavailableError: The server cannot serve one of the commands now.
    """
    checked: list[Any] = []
    for answer in answers:
        if damage_of(answer) is not None:
            log.error("entry.unreadable", reason=_DAMAGED.findall(str(answer))[:1])
            checked.append(None)
            continue
        if isinstance(answer, Exception):
            with translated_errors():
                raise answer
        checked.append(answer)
    return checked


def lower_bound(after: str | None) -> str:
    """The start of a stream's range that begins behind a cursor, which is an entry's id.

    Raises:
        InvalidCursorError: It has not the form of one.
    """
    return "-" if after is None else _exclusive(after)


def upper_bound(before: str | None) -> str:
    """The end of a stream's range that ends before a cursor; raises as `lower_bound`."""
    return "+" if before is None else _exclusive(before)


def _exclusive(cursor: object) -> str:
    if not isinstance(cursor, str) or not _is_entry_id(cursor):
        raise InvalidCursorError(
            f"{cursor!r} is not a cursor of this store; pass the `cursor` of something it returned."
        )
    return f"({cursor}"


def _is_entry_id(cursor: str) -> bool:
    """Whether an entry could have this id. Redis refuses a range that excludes the ends of all."""
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        return False
    parts = int(match[1]), int(match[2])
    return max(parts) <= _LARGEST and parts not in ((0, 0), (_LARGEST, _LARGEST))


class Script:
    """One Lua script, sent by its digest and in full only to a server that does not know it yet."""

    def __init__(self, client: Redis, source: str) -> None:
        self._client = client
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
        """Run it. Raises `StoreUnavailableError` when there was no answer."""
        with translated_errors():
            try:
                return await self._client.evalsha(self.digest, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._client.eval(self.source, len(keys), *keys, *arguments)


@cache
def script_source(folder: str, name: str) -> str:
    """The text of ``shared/lua/<folder>/<name>.lua`` behind its folder's prelude."""
    home = files("shared") / "lua" / folder
    return f"{(home / 'prelude.lua').read_text()}\n{(home / f'{name}.lua').read_text()}"
