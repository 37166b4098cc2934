"""Two stores on the stage: runs in Redis, messages in PostgreSQL."""

from dataclasses import replace
from typing import Any

import psycopg

from shared.backend import Backend
from tests.contract.machine.redis_stage import RedisStage
from tests.contract.machine.snapshot import Snapshot
from tests.topologies.postgres import PostgresServer


class PostgresStage(RedisStage):
    """Servers of one's own. Nothing of a history depends on the time that is moved."""

    def __init__(self, redis_url: str, server: PostgresServer, settings: dict[str, Any]) -> None:
        elsewhere = {"conversation_url": server.url, "conversation_timeout_s": 60.0}
        super().__init__(redis_url, settings | elsewhere)
        self._server = server
        self._connection: psycopg.Connection[Any] | None = None

    async def open(self) -> Backend:
        backend = await super().open()
        await backend.prepare()
        self._execute("TRUNCATE machine.conversation, machine.message")
        return backend

    async def look(self) -> Snapshot:
        snapshot = await super().look()
        assert not snapshot.messages, "Redis holds messages"
        rows = self._execute(
            "SELECT conversation_id, number, data FROM machine.message ORDER BY number"
        )
        messages: dict[str, list[Any]] = {}
        for history, number, data in rows:
            messages.setdefault(history, []).append(self.message(history, f"p{number}", data))
        counts = dict(
            self._execute("SELECT id, messages FROM machine.conversation WHERE messages > 0")
        )
        assert counts == {history: len(stored) for history, stored in messages.items()}
        return replace(snapshot, messages=messages, listed=frozenset(counts))

    async def aclose(self) -> None:
        await super().aclose()
        if self._connection is not None:
            self._connection.close()
        self._server.execute("DROP SCHEMA machine CASCADE")

    def _execute(self, statement: str) -> list[Any]:
        if self._connection is None:
            self._connection = psycopg.connect(self._server.url, autocommit=True)
        cursor = self._connection.execute(statement)
        return cursor.fetchall() if cursor.description else []
