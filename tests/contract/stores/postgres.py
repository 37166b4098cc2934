"""Conversations in PostgreSQL."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from shared.conversation.postgres import PostgresConversationStore, open_postgres
from shared.conversation.protocol import ConversationStore
from shared.postgres_schema import schema_name
from shared.settings import Settings
from tests.topologies.postgres import PostgresServer, Users

_DAMAGE = """
    INSERT INTO {schema}.message (conversation_id, number, run_id, position, role, kind, data)
    SELECT conversation_id, number + 1, run_id, position, role, kind, '{{' FROM {schema}.message
    WHERE conversation_id = %s ORDER BY number DESC LIMIT 1;
"""
_COUNT = """
    UPDATE {schema}.conversation SET newest = newest + 1, messages = messages + 1 WHERE id = %s
"""


class PostgresStores:
    """Stores over one schema, as a user with the documented rights, so that they are enough.

    The schema was prepared by another user, who alone may do that.
    """

    def __init__(self, server: PostgresServer, key_prefix: str | None = None) -> None:
        self.server = server
        self.key_prefix = key_prefix or f"test-{uuid4().hex}"
        self.users = Users(server, self.key_prefix)
        self._opened: list[PostgresConversationStore] = []

    async def prepare(self) -> None:
        """Make the schema as its owner, and give the user the rights."""
        owner = self.build(url=self.users.owner_url)
        await owner.prepare()
        self.users.grant()

    async def open(self) -> ConversationStore:
        await self.prepare()
        return self.build()

    async def open_elsewhere(self, store: ConversationStore) -> ConversationStore:
        return self.build()

    def build(self, *, url: str | None = None, **settings: Any) -> PostgresConversationStore:
        """A store with these settings. It is closed with the harness."""
        own: dict[str, Any] = {"key_prefix": self.key_prefix, "conversation_timeout_s": 10.0}
        store = open_postgres(url or self.users.url, Settings(**own | settings))
        self._opened.append(store)
        return store

    async def damage(self, store: ConversationStore, conversation_id: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.server.url) as connection:
            for text in (_DAMAGE, _COUNT):
                statement = sql.SQL(text).format(schema=self.schema)
                await connection.execute(statement, [conversation_id])

    @property
    def schema(self) -> sql.Identifier:
        """The schema's name, for statements."""
        return sql.Identifier(schema_name(self.key_prefix))

    async def aclose(self) -> None:
        for store in self._opened:
            await store.aclose()
        self.users.remove()


def open_postgres_stores(request: pytest.FixtureRequest) -> PostgresStores:
    return PostgresStores(request.getfixturevalue("postgres_server"))
