"""The connection to Redis: time-outs, errors, scripts."""

import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final

import structlog
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
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
    AgentsError,
    ConfigurationError,
    CorruptEntryError,
    InvalidCursorError,
    StoreUnavailableError,
)
from shared.redis_cluster import Address, AnyNode, Cluster
from shared.redis_keys import mark_of_waiting
from shared.redis_sentinel import SentinelPool
from shared.redis_sharing import SharingRedis
from shared.redis_url import RedisPlace, parse_redis_url
from shared.settings import Settings
from shared.tls import redis_tls

COMMAND_CONNECTIONS: Final = 32
"""Connections for commands of one process. A caller that finds none free waits for one; redis-py's
own pool would raise at its 101st connection instead."""

log = structlog.get_logger()

_MARK_S: Final = 3600
_CURSOR: Final = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_LARGEST: Final = 2**64 - 1
"""The largest number in an entry's id."""

_NO_SUCH_DATABASE: Final = "DB index is out of range"

_TEMPORARY: Final = (
    AskError,
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


_REFUSAL: Final = re.compile(r"NOPERM|ACL failure|The user executing the script can't")


def connect(settings: Settings) -> Redis:
    """A client for commands. Nothing connects before its first command.

    For a cluster it is a `Cluster`, which has the commands of `Redis`.

    Raises:
        ConfigurationError: The URL is not one of Redis.
    """
    place = _place(settings)
    options = _options(settings, place, settings.redis_timeout_s)
    if place.topology == "cluster":
        return Cluster(place.hosts, _to_nodes(settings, place, options, COMMAND_CONNECTIONS))
    pool = _pool(settings, place, options, COMMAND_CONNECTIONS)
    return SharingRedis(pool, timeout_s=settings.redis_timeout_s)


def connect_for_listening(settings: Settings, commands: Redis) -> "Redis | AnyNode":
    """A client for one long-lived pub/sub connection, whose reads wait for as long as it takes.

    In a cluster it listens at one of the nodes that the client for commands knows.
    """
    place = _place(settings)
    options = _options(settings, place, None)
    if isinstance(commands, Cluster):
        return AnyNode(commands, _to_nodes(settings, place, options, 2))
    return Redis.from_pool(_pool(settings, place, options, 2))


def _to_nodes(
    settings: Settings, place: RedisPlace, options: dict[str, Any], size: int
) -> Callable[[Address], Redis]:
    """What connects to one node of a cluster."""

    def connect_to(address: Address) -> Redis:
        pool = BlockingConnectionPool(
            max_connections=size,
            timeout=settings.redis_timeout_s,
            connection_class=SSLConnection if place.is_tls else Connection,
            host=address[0],
            port=address[1],
            **options,
        )
        return SharingRedis(pool, timeout_s=settings.redis_timeout_s)

    return connect_to


def _place(settings: Settings) -> RedisPlace:
    try:
        return parse_redis_url(settings.effective_redis_url)
    except ValueError as error:
        raise _bad_url(str(error)) from error


def _bad_url(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"AGENTS_REDIS_URL is no URL of Redis ({why}); it looks like redis://host:6379/0. In a "
        "password, write characters like / ? # @ as %2F %3F %23 %40."
    )


def _options(settings: Settings, place: RedisPlace, read_timeout_s: float | None) -> dict[str, Any]:
    """What every connection is made with."""
    return {
        "username": place.username,
        "password": place.password,
        **_waiting(settings, read_timeout_s),
        **(redis_tls(settings) if place.is_tls else {}),
        "decode_responses": True,
        # What is not UTF-8 is not ours. This way it makes one entry unreadable, while "strict"
        # would fail the whole answer that the entry is a part of.
        "encoding_errors": "surrogateescape",
    }


def _waiting(settings: Settings, read_timeout_s: float | None) -> dict[str, Any]:
    return {
        "socket_connect_timeout": settings.redis_timeout_s,
        # redis-py would cut a read after 5 s by itself, whatever it waits for.
        "socket_timeout": read_timeout_s,
        "socket_keepalive": True,
        # A retry inside the library would repeat a script whose answer was lost without anybody
        # knowing; the callers here know which of theirs may be repeated.
        "retry": Retry(NoBackoff(), 0),
    }


def _pool(
    settings: Settings, place: RedisPlace, options: dict[str, Any], size: int
) -> BlockingConnectionPool:
    """Connections to a server, or to the primary that sentinels name."""
    options = options | {"max_connections": size, "timeout": settings.redis_timeout_s}
    if place.topology == "sentinel":
        kind = SentinelManagedSSLConnection if place.is_tls else SentinelManagedConnection
        sentinels = Sentinel(  # type: ignore[no-untyped-call]
            list(place.hosts), sentinel_kwargs=_sentinel_options(settings, place)
        )
        return SentinelPool(
            place.primary, sentinels, connection_class=kind, db=place.database, **options
        )
    try:
        return BlockingConnectionPool.from_url(settings.effective_redis_url, **options)
    except ValueError:
        # Neither quoted nor chained: a password with a slash in it is taken for the port, and said.
        raise _bad_url("a part of it cannot be read") from None


def _sentinel_options(settings: Settings, place: RedisPlace) -> dict[str, Any]:
    password = settings.sentinel_password
    return {
        "username": settings.sentinel_username,
        "password": password.get_secret_value() if password is not None else None,
        **_waiting(settings, settings.redis_timeout_s),
        **({"ssl": True, **redis_tls(settings)} if place.is_tls else {}),
    }


@contextmanager
def translated_errors(what: str = "") -> Iterator[None]:
    """Turn redis-py's errors into this project's. `what` was asked for, in words for the caller."""
    try:
        yield
    except AuthenticationError as error:
        raise ConfigurationError(
            f"Redis refused these credentials ({error}); check AGENTS_REDIS_USERNAME and "
            "AGENTS_REDIS_PASSWORD, or user and password in AGENTS_REDIS_URL."
        ) from error
    except ResponseError as error:
        if (translated := _translated(error, what)) is None:
            raise
        raise translated from error
    except (RedisError, OSError, TimeoutError) as error:
        if (distrust := distrusted(error)) is not None:
            raise distrust from error
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


def _translated(error: ResponseError, what: str) -> AgentsError | None:
    """The error of this project for an answer; None for one that only a defect explains."""
    text = str(error)
    if is_refusal(error):
        return missing_right(text, what)
    if text == _NO_SUCH_DATABASE:
        return ConfigurationError(
            "Redis has no database of this number; correct the one that AGENTS_REDIS_URL ends "
            "with, /0 if in doubt."
        )
    if (damage := damage_of(error)) is not None:
        return damage
    if isinstance(error, _TEMPORARY) or _TEMPORARY_CODE.search(text):
        return StoreUnavailableError(f"Redis cannot serve this now: {text}")
    return None


def distrusted(error: BaseException) -> ConfigurationError | None:
    """The error for a certificate that was not accepted, if that is behind another error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    return ConfigurationError(
        f"The certificate of Redis is not accepted ({cause.verify_message}). Name whoever signed "
        "it in AGENTS_TLS_CA_FILE; for a host of another name, see AGENTS_TLS_CHECK_HOSTNAME."
    )


def listening_error(error: Exception) -> ConfigurationError | None:
    """The error for what keeps everybody from listening, if no waiting helps against it."""
    if isinstance(error, RedisError) and is_refusal(error):
        return missing_right(str(error), "SUBSCRIBE to channels of the key prefix")
    return distrusted(error)


def is_refusal(error: RedisError) -> bool:
    """Whether the user lacks a right. For a script, Redis 6 says so in other words."""
    return isinstance(error, NoPermissionError) or bool(_REFUSAL.search(str(error)))


def missing_right(text: str, what: str) -> ConfigurationError:
    """The error for a right that is missing; Redis names a command, but no key and no channel."""
    about = f" for {what}" if what else ""
    return ConfigurationError(
        f"The user at Redis lacks a right{about} ({text}). docs/operations.md lists the commands, "
        "keys and channels that clients and workers need."
    )


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


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas must have a change before it counts, and how long that may take."""

    count: int
    timeout_ms: int


def wanted_replicas(settings: Settings) -> Replicas | None:
    """What the settings ask for; None where a change counts as soon as the primary has it."""
    if settings.redis_wait_replicas == 0:
        return None
    return Replicas(settings.redis_wait_replicas, int(settings.redis_wait_timeout_s * 1000))


class Script:
    """One Lua script, sent by its digest and in full only to a server that does not know it yet.

    With `replicas`, its answer counts once so many of them have what it wrote.
    """

    def __init__(self, client: Redis, source: str, *, replicas: Replicas | None = None) -> None:
        self._client = client
        self._replicas = replicas
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], arguments: Sequence[str | int | float]) -> Any:
        """Run it. Raises `StoreUnavailableError` when there was no answer, or it does not count."""
        rest = (len(keys), *keys, *arguments)
        with translated_errors(f"a script on {', '.join(keys)}"):
            try:
                return await self._send("EVALSHA", self.digest, *rest)
            except NoScriptError:
                return await self._send("EVAL", self.source, *rest)

    async def _send(self, *words: str | float) -> Any:
        if self._replicas is None:
            return await self._client.execute_command(*words)  # type: ignore[no-untyped-call]
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command(*words)
            # A script that repeats what was done before writes nothing, and WAIT would then say
            # nothing about what was written before.
            pipeline.set(mark_of_waiting(str(words[3])), 1, ex=_MARK_S)
            pipeline.execute_command("WAIT", self._replicas.count, self._replicas.timeout_ms)
            answer, mark, copies = await pipeline.execute(raise_on_error=False)
        for each in (answer, mark, copies):
            if isinstance(each, Exception):
                raise each
        if copies < self._replicas.count:
            raise StoreUnavailableError(
                f"This is written, but {copies} replicas of the {self._replicas.count} that "
                "AGENTS_REDIS_WAIT_REPLICAS asks for have it, so that a failover could lose it. "
                "Repeating it is safe; check the replicas."
            )
        return answer


@cache
def script_source(folder: str, name: str) -> str:
    """The text of ``shared/lua/<folder>/<name>.lua`` behind its folder's prelude.

    Runs and records of conversations change in one step, so these two know of records.
    """
    home = files("shared") / "lua"
    parts = [home / "record.lua"] if folder in {"ledger", "directory"} else []
    parts += [home / folder / "prelude.lua", home / folder / f"{name}.lua"]
    return "\n".join(part.read_text() for part in parts)
