"""The schema in which a system keeps its conversations: its name, and how it comes up to date.

Migrations are the files of `shared/sql/postgres`, in the order of their numbers. Each is applied
once, in a transaction that holds an advisory lock: of ten processes that start together, one
applies them and nine find them applied.

A migration says which number a process has to know to use the schema behind it (`NEEDS`). Mostly
that is an older one: what is added does not disturb who does not know it, so a deploy needs no
moment in which nobody works. A process that meets a schema which needs more than it knows refuses
to work, and says so.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

from shared.errors import ConfigurationError
from shared.postgres_client import PostgresClient
from shared.postgres_fault import translated_errors

NEEDS: Final[Mapping[int, int]] = MappingProxyType({1: 1})
"""For each migration: the oldest number that a process has to know to use what it leaves."""
NEWEST: Final = max(NEEDS)
MIGRATION_S: Final = 600.0
"""How long a migration may take, the wait for another process that applies it included."""

_LONGEST_NAME: Final = 63
_RESERVED: Final = ("pg_", "public", "information_schema")
_LOOK: Final = "SELECT current_setting('server_encoding'), to_regclass(%s) IS NOT NULL"
_READ: Final = "SELECT coalesce(max(number), 0), coalesce(max(needs), 0) FROM {schema}.migration"
_CREATE: Final = """
    CREATE SCHEMA IF NOT EXISTS {schema};
    CREATE TABLE IF NOT EXISTS {schema}.migration (
        number integer PRIMARY KEY,
        needs integer NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""
_NOTE: Final = "INSERT INTO {schema}.migration (number, needs) VALUES (%s, %s)"


class PostgresSchema:
    """The schema of one key prefix."""

    def __init__(self, key_prefix: str) -> None:
        self.name = schema_name(key_prefix)
        self.channel = f"agents_{_digest(self.name)}"
        """Where hints are published. Not the schema's name, which others may listen to."""
        self._names = {"schema": sql.Identifier(self.name), "channel": sql.Literal(self.channel)}
        self._statements: dict[tuple[str, ...], bytes] = {}

    def statement(self, text: LiteralString, **parts: LiteralString) -> bytes:
        """A statement with the schema in the place of ``{schema}``, and with these parts."""
        key = (text, *parts.values())
        if key not in self._statements:
            given = {name: sql.SQL(part) for name, part in parts.items()}
            self._statements[key] = sql.SQL(text).format(**self._names, **given).as_bytes()
        return self._statements[key]

    async def prepare(self, client: PostgresClient) -> None:
        """Make the schema, or bring it up to date; mostly one look that finds it so.

        Raises:
            ConfigurationError: It is of a newer release, or the user may not make it.
            StoreUnavailableError: No answer.
        """
        encoding, is_there = (await client.fetch(_LOOK, [f"{_quoted(self.name)}.migration"]))[0]
        if encoding != "UTF8":
            raise ConfigurationError(
                f"The database has the encoding {encoding}, which cannot hold what people write. "
                "Create one with ENCODING 'UTF8' TEMPLATE template0."
            )
        number, needs = (await client.fetch(self.statement(_READ)))[0] if is_there else (0, 0)
        self._check_known(needs)
        if number < NEWEST:
            await self._migrate(client)

    async def _migrate(self, client: PostgresClient) -> None:
        with translated_errors():
            async with asyncio.timeout(client.timeout_s):
                connection = await client.connect()
            try:
                async with asyncio.timeout(MIGRATION_S), connection.transaction():
                    await self._apply(connection)
            except psycopg.errors.InsufficientPrivilege as error:
                raise self._not_allowed(error) from error
            except (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateFunction) as error:
                raise ConfigurationError(
                    f"The schema {self.name!r} holds something of another program "
                    f"({error.diag.message_primary}); choose another AGENTS_KEY_PREFIX."
                ) from error
            finally:
                connection.pgconn.finish()

    async def _apply(self, connection: psycopg.AsyncConnection[Any]) -> None:
        limit_ms = str(int(MIGRATION_S * 1000))
        await connection.execute("SELECT set_config('statement_timeout', %s, true)", [limit_ms])
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_lock_number(self.name)])
        if not await self._is_there(connection):
            await connection.execute(self.statement(_CREATE))
        found = await connection.execute(self.statement(_READ))
        number, needs = await found.fetchone() or (0, 0)
        self._check_known(needs)
        for next_number in range(number + 1, NEWEST + 1):
            await connection.execute(self.statement(migration(next_number)))
            await connection.execute(self.statement(_NOTE), [next_number, NEEDS[next_number]])

    async def _is_there(self, connection: psycopg.AsyncConnection[Any]) -> bool:
        """Asked once more under the lock; CREATE … IF NOT EXISTS takes rights, there or not."""
        found = await connection.execute(_LOOK, [f"{_quoted(self.name)}.migration"])
        return bool((await found.fetchone() or (None, False))[1])

    def _check_known(self, needs: int) -> None:
        if needs > NEWEST:
            raise ConfigurationError(
                f"The schema {self.name!r} is of a newer release: it takes one that knows "
                f"migration {needs}, and this one knows {NEWEST}. Update this process."
            )

    def _not_allowed(self, error: psycopg.Error) -> ConfigurationError:
        return ConfigurationError(
            f"The user at PostgreSQL may not make the schema {self.name!r} or bring it up to date "
            f"({error.diag.message_primary}). Let a user that may do it run `agent-worker prepare` "
            "once; docs/postgresql.md has the rights."
        )


def schema_name(key_prefix: str) -> str:
    """The schema of a key prefix: the prefix itself, where PostgreSQL takes it for a name.

    Two prefixes never have one schema.
    """
    if len(key_prefix) <= _LONGEST_NAME and not key_prefix.startswith(_RESERVED):
        return key_prefix
    return f"agents-{key_prefix[:36]}-{_digest(key_prefix)}"


@cache
def migration(number: int) -> LiteralString:
    """The text of a migration."""
    [file] = [
        each
        for each in (files("shared") / "sql" / "postgres").iterdir()
        if each.name.startswith(f"{number:04d}_") and each.name.endswith(".sql")
    ]
    return file.read_text(encoding="utf-8")


def _quoted(name: str) -> str:
    """For `to_regclass`, which takes a name as it is written in a statement."""
    return '"' + name.replace('"', '""') + '"'


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _lock_number(name: str) -> int:
    digest = hashlib.blake2b(f"celery-agents {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
